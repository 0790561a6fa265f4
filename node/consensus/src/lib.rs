//! Sans-io replicated log: protocols behind one trait.
