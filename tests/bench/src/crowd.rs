//! A server with a hundred policies of its admin's beside one with a single one: start and memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tidewaiter_tools::Language;

use crate::fixture::Fixture;
use crate::report::middle;
use crate::servers::Server;

const POLICIES: usize = 100;
const STARTS: usize = 5;

/// What a hundred policies cost.
pub(crate) struct Crowd {
    /// From `exec` to the first `/readyz` that says yes, with all of them in the cache on disk.
    pub(crate) warm: Duration,
    /// Resident memory for each policy more, beyond its code, before any has run, in MiB.
    pub(crate) mib_each: f64,
    /// A policy's code, compiled, in MiB.
    pub(crate) code_mib_each: f64,
}

pub(crate) async fn measure() -> Result<Crowd> {
    let component = tidewaiter_examples::component(Language::Rust)?;
    let (one, _) = server(&component, 1).await?;
    let (all, warm) = server(&component, POLICIES).await?;
    #[allow(clippy::cast_precision_loss, reason = "a hundred")]
    let more = (POLICIES - 1) as f64;
    let code_mib_each = (all.1 - one.1) / more;
    Ok(Crowd {
        warm,
        mib_each: (all.0 - one.0) / more - code_mib_each,
        code_mib_each,
    })
}

/// Memory (resident; compiled code in its cache) and start of a server with so many policies.
async fn server(component: &[u8], policies: usize) -> Result<((f64, f64), Duration)> {
    let fixture = Fixture::new().await?;
    for number in 0..policies {
        let name = format!("rule-{number:03}");
        fs::write(
            fixture.config().join(format!("{name}.wasm")),
            distinct(component, number)?,
        )?;
        let policy = json!({
            "apiVersion": "tidewaiter.dev/v1alpha1",
            "kind": "WasmPolicy",
            "metadata": {"name": name},
            "spec": {
                "module": {"file": format!("{name}.wasm")},
                "settings": {"prefixes": ["s3://"], "maxReplicas": 10},
                "capabilities": ["cluster"],
                "match": {"namespaces": [name]},
            },
        });
        fs::write(fixture.config().join(format!("{name}.yaml")), policy.to_string())?;
    }
    Server::webhook(&fixture)?.answering(&fixture).await?;
    let mut starts = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = Server::webhook(&fixture)?;
        server.answering(&fixture).await?;
        starts.push(begun.elapsed());
        memory.push(server.rss_mib()?);
    }
    starts.sort_unstable();
    let mut code = 0;
    for entry in fs::read_dir(fixture.cache())? {
        code += entry?.metadata()?.len();
    }
    #[allow(clippy::cast_precision_loss, reason = "some 100 MiB")]
    let code = code as f64 / f64::from(1 << 20);
    Ok(((middle(memory), code), starts[STARTS / 2]))
}

/// The same component with another digest, by a custom section: each is compiled, kept and mapped by itself, as a hundred authors' would be.
fn distinct(component: &[u8], number: usize) -> Result<Vec<u8>> {
    let name = format!("{number:03}");
    let mut bytes = component.to_vec();
    // Section 0, its size, the length of its name, its name.
    let length = u8::try_from(name.len()).context("a name of three digits")?;
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.as_bytes());
    Ok(bytes)
}
