//! What is generated from the code is committed as it is generated.

use kube::CustomResourceExt as _;
use quorate_operator::crd::StoreCluster;

#[test]
fn the_committed_definition_is_the_generated_one() {
    let generated = serde_yaml::to_string(&StoreCluster::crd()).unwrap();
    for path in [
        "../crds/storeclusters.quorate.io.yaml",
        "../charts/quorate-operator/crds/storeclusters.quorate.io.yaml",
    ] {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, generated, "{path} is old: run `make fix`");
    }
}
