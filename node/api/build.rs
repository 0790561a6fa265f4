//! Compiles the .proto files without protoc, and keeps their descriptors for the library to expose.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

/// Where the .proto files lie, from this crate's folder.
const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ROOT}");

    let descriptors = protox::compile(protos()?, [ROOT])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .codec_path("crate::codec::SizedCodec")
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Every .proto file, by name, in an order that does not depend on the file system.
fn protos() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(ROOT)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}
