//! The charts: helm's own checks, what they render, what their schemas refuse.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use quorate_e2e::command::output;
use quorate_e2e::tools::{HELM, repository};

fn helm(arguments: &[&str]) -> Result<String> {
    output(Command::new(HELM.built()?.join("helm")).args(arguments))
}

fn chart(name: &str) -> String {
    let path: PathBuf = repository().join("charts").join(name);
    path.to_string_lossy().into_owned()
}

#[test]
#[ignore = "builds helm: make test"]
fn charts_are_in_order() -> Result<()> {
    for name in ["quorate-operator", "quorate-cluster"] {
        helm(&["lint", "--strict", &chart(name)])?;
    }
    Ok(())
}

#[test]
#[ignore = "builds helm: make test"]
fn charts_render_what_their_values_say() -> Result<()> {
    let operator = chart("quorate-operator");
    let all = helm(&[
        "template",
        "op",
        &operator,
        "--include-crds",
        "--set=image.tag=t1",
        "--set=nodeImage=x/y:z",
    ])?;
    for wanted in [
        "quorate/operator:t1",
        "--node-image=x/y:z",
        "kind: ClusterRoleBinding",
        "storeclusters.quorate.io",
        "replicas: 2",
    ] {
        ensure!(all.contains(wanted), "{wanted} is missing in {all}");
    }
    let one = helm(&["template", "op", &operator, "--set=watchNamespace=team"])?;
    ensure!(one.contains("--namespace=team") && one.contains("namespace: team"), "{one}");
    let cluster =
        helm(&["template", "db", &chart("quorate-cluster"), "--set=members=5", "--set=zones={a,b}"])?;
    for wanted in ["name: db", "members: 5", "- name: a", "- name: b", "reclaimPolicy: Retain"] {
        ensure!(cluster.contains(wanted), "{wanted} is missing in {cluster}");
    }
    let zones = r#"--set-json=zones=["a","b",{"name":"w","role":"Witness","leaderPriority":2}]"#;
    let cluster = helm(&["template", "db", &chart("quorate-cluster"), zones])?;
    for wanted in ["- name: a", "name: w", "role: Witness", "leaderPriority: 2"] {
        ensure!(cluster.contains(wanted), "{wanted} is missing in {cluster}");
    }
    Ok(())
}

#[test]
#[ignore = "builds helm: make test"]
fn schemas_refuse_what_makes_no_sense() -> Result<()> {
    for (name, value) in [
        ("quorate-operator", "replicas=0"),
        ("quorate-operator", "imagee.tag=x"),
        ("quorate-cluster", "members=4"),
        ("quorate-cluster", "consensus=Paxos"),
        ("quorate-cluster", "zones={a,a}"),
    ] {
        let refused = helm(&["template", "x", &chart(name), &format!("--set={value}")]);
        ensure!(refused.is_err(), "{name} takes {value}");
    }
    Ok(())
}
