//! Compiles `proto/` without a protoc binary: protox parses, tonic's generator writes the service and its messages.

use std::path::PathBuf;

use prost::Message;

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("cannot compile proto/: {0}")]
    Proto(#[from] protox::Error),
    #[error("cannot write generated code: {0}")]
    Write(#[from] std::io::Error),
    #[error("cargo sets no {0}")]
    Variable(#[from] std::env::VarError),
}

fn main() -> Result<(), BuildError> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["playhouse/v1/ingest.proto"], [&root])?;
    // What the reflection service shows.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_client(false).bytes(".").compile_fds(descriptors)?;
    Ok(())
}
