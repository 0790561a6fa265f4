//! Doing: objects and steps.

pub mod objects;
pub mod record;
pub mod secrets;
pub mod steps;
