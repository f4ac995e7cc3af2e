//! Compiles the Open Inference Protocol by protox: nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/inference.proto");
    let protocol = protox::compile(["inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        // What the protocol's own words say needs no second copy in the crate's documentation.
        .compile_fds(protocol)?;
    Ok(())
}
