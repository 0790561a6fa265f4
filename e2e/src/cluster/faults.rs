//! What goes wrong on purpose.

use anyhow::Result;

use super::Cluster;
use super::layout::{Node, fabric_namespace};
use crate::command::run;

impl Cluster {
    /// Cuts a node off from everything.
    ///
    /// # Errors
    /// The cluster is down.
    pub fn cut(&self, node: &Node) -> Result<()> {
        run(["ip", "-n", &fabric_namespace(), "link", "set", &format!("v{}", node.name), "down"])
    }

    /// Connects it again.
    ///
    /// # Errors
    /// The cluster is down.
    pub fn heal(&self, node: &Node) -> Result<()> {
        run(["ip", "-n", &fabric_namespace(), "link", "set", &format!("v{}", node.name), "up"])
    }
}
