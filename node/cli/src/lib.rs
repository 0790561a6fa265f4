//! The quorate command line.
