//! The API is etcd's, field by field: the facts of our .proto files are those of etcd's Go modules.
//!
//! testdata/README.md tells where the expected facts come from and how to refresh them.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use quorate_api::FILE_DESCRIPTOR_SET;

/// What etcd 3.7.3 is.
const ETCD: &str = include_str!("../testdata/etcd-3.7.3.txt");

/// Our own package, of which etcd knows nothing.
const PEER: &str = "quorate.peer.v1";

#[test]
fn the_api_is_etcds() {
    let expected: BTreeSet<String> = ETCD.lines().map(str::to_owned).collect();
    let found = facts(|package| package != PEER);

    let missing: Vec<_> = expected.difference(&found).collect();
    let extra: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn the_expected_facts_are_sorted_and_complete() {
    let lines: Vec<_> = ETCD.lines().collect();
    assert!(lines.is_sorted());
    let methods =
        lines.iter().filter(|line| line.starts_with("rpc ") && !line.contains(" grpc.health.")).count();
    assert_eq!(methods, 49);
}

#[test]
fn the_peer_protocol_is_described() {
    let found = facts(|package| package == PEER);
    assert!(found.contains(
        "rpc quorate.peer.v1.Peer.Snapshot stream quorate.peer.v1.SnapshotChunk returns quorate.peer.v1.SnapshotAck"
    ));
    assert!(found.contains("field quorate.peer.v1.GroupMessage.payload 2 bytes singular"));
}

/// The facts of the packages that are wanted.
fn facts(wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let set =
        FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptors were encoded by build.rs");
    let mut facts = Facts::default();
    for file in set.file.iter().filter(|file| wanted(file.package())) {
        facts.file(file);
    }
    facts.0
}

/// One line each; testdata/descriptors/main.go writes the same.
#[derive(Default)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn add(&mut self, fact: String) {
        self.0.insert(fact);
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        self.add(format!("package {package} {}", file.syntax()));
        for item in &file.enum_type {
            self.enumeration(package, item);
        }
        for item in &file.message_type {
            self.message(package, item);
        }
        for item in &file.service {
            self.service(package, item);
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let map_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
        self.add(format!("message {name}{}", if map_entry { " map_entry" } else { "" }));
        for item in &message.enum_type {
            self.enumeration(&name, item);
        }
        for item in &message.nested_type {
            self.message(&name, item);
        }
        for item in &message.field {
            let fact = format!(
                "field {name}.{} {} {} {}",
                item.name(),
                item.number(),
                kind(item),
                label(message, item)
            );
            self.add(fact);
        }
    }

    fn enumeration(&mut self, scope: &str, item: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", item.name());
        for value in &item.value {
            self.add(format!("value {name}.{} {}", value.name(), value.number()));
        }
        self.add(format!("enum {name}"));
    }

    fn service(&mut self, scope: &str, service: &ServiceDescriptorProto) {
        let name = format!("{scope}.{}", service.name());
        for method in &service.method {
            let input = shape(method.client_streaming(), method.input_type());
            let output = shape(method.server_streaming(), method.output_type());
            self.add(format!("rpc {name}.{} {input} returns {output}", method.name()));
        }
        self.add(format!("service {name}"));
    }
}

/// A type as a .proto file writes it; for messages and enums with the full name.
fn kind(field: &FieldDescriptorProto) -> String {
    let name = field.type_name().trim_start_matches('.');
    match field.r#type() {
        Type::Message => format!("message {name}"),
        Type::Group => format!("group {name}"),
        Type::Enum => format!("enum {name}"),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

/// How often a field may be there, and with which others it excludes itself.
fn label(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    match (field.label(), field.oneof_index) {
        (Label::Repeated, _) => "repeated".to_owned(),
        (Label::Required, _) => "required".to_owned(),
        (Label::Optional, _) if field.proto3_optional() => "optional".to_owned(),
        (Label::Optional, Some(index)) => {
            let index = usize::try_from(index).expect("an index is not negative");
            format!("oneof {}", message.oneof_decl[index].name())
        }
        (Label::Optional, None) => "singular".to_owned(),
    }
}

/// One side of a method.
fn shape(streaming: bool, message: &str) -> String {
    let message = message.trim_start_matches('.');
    if streaming { format!("stream {message}") } else { message.to_owned() }
}
