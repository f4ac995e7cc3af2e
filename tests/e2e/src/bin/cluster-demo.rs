//! `cargo xtask demo --cluster`: Tidewaiter on the real control plane, from a bare manifest to a model that answers.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use tidewaiter_e2e::{in_the_ground, install, manifests};
use tidewaiter_ground::models::{Model, SavedWith};
use tidewaiter_ground::{Cluster, Options, host};

fn main() -> ExitCode {
    match in_the_ground(
        Options {
            node: host::is_root(),
            ..Options::default()
        },
        || Ok(Vec::new()),
        |cluster| show(&cluster),
    ) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(cluster: &Cluster) -> Result<ExitCode> {
    let _tidewaiter = install(cluster)?;
    let model = Model::make(cluster.cache(), "fraud", SavedWith::Mlserver1_7_1)?;
    let uri = model.put(cluster.cache(), "mlflow", "shared/fraud")?;
    let namespace = cluster.namespace("demo")?;
    let manifest = manifests::bare("fraud", "mlflow", &uri);
    println!("\n\u{2500}\u{2500} what the user applies\n\n{manifest}");
    let said = namespace.apply(&manifest)?;
    println!("\u{2500}\u{2500} what kubectl says\n\n{}{}", said.stderr, said.stdout);
    let shown = namespace.kubectl(&["get", "isvc", "fraud", "-o", "yaml"])?;
    let status = shown.find("\nstatus:").unwrap_or(shown.len());
    println!("\u{2500}\u{2500} what is in the cluster\n\n{}\n", &shown[..status]);
    println!("{}", namespace.kubectl(&["describe", "secret", "tidewaiter-minio"])?);
    let refused = namespace.try_apply(
        &["--server-side"],
        &manifests::bare("theirs", "mlflow", "s3://mlflow/another-team/fraud"),
    )?;
    ensure!(!refused.ok, "a prefix that is not granted was admitted");
    println!("\u{2500}\u{2500} a path of another team\n\n{}", refused.stderr);
    if !cluster.options().node {
        println!("Without root no Pods run here, so the model does not answer.");
        return Ok(ExitCode::SUCCESS);
    }
    namespace.ready("fraud")?;
    let (rest, grpc) = (
        namespace.infer("fraud", &model.request)?,
        namespace.infer_grpc("fraud", &model.request)?,
    );
    println!(
        "\u{2500}\u{2500} the answer\n\nover REST  {rest:?}\nover gRPC  {grpc:?}\nthe model  {:?}",
        model.answers
    );
    model.check(&rest)?;
    model.check(&grpc)?;
    Ok(ExitCode::SUCCESS)
}
