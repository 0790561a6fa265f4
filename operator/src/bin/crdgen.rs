//! Prints the CustomResourceDefinition.

use kube::CustomResourceExt as _;

use quorate_operator::crd::StoreCluster;

fn main() -> anyhow::Result<()> {
    print!("{}", serde_yaml::to_string(&StoreCluster::crd())?);
    Ok(())
}
