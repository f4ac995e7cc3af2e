//! From apply to answer: with Tidewaiter, a manifest needs no more than a name, a format and a URI.

use anyhow::{Context, Result, ensure};
use tidewaiter_e2e::manifests;
use tidewaiter_ground::models::SavedWith;

use crate::{Test, World};

pub(crate) const TESTS: &[Test] = &[("a_bare_manifest_answers", true, a_bare_manifest_answers)];

fn a_bare_manifest_answers(world: &World) -> Result<()> {
    let (model, uri) = world.model("fraud", SavedWith::Mlserver1_7_1, "mlflow")?;
    let namespace = world.namespace("bare")?;
    let said = namespace.apply(&manifests::bare("fraud", "mlflow", &uri))?;
    ensure!(said.warnings().iter().any(|line| line.starts_with("tidewaiter: ")), "no word of what was filled in: {}", said.stderr);
    namespace.ready("fraud").with_context(|| world.tidewaiter().map(tidewaiter_e2e::Tidewaiter::last_lines).unwrap_or_default())?;
    model.check(&namespace.infer("fraud", &model.request)?)?;
    model.check(&namespace.infer_grpc("fraud", &model.request)?)
}
