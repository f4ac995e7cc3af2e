//! What authors of policies need, and whoever wants to know before the cluster says it. A library that prints nothing: the command `tidewaiter` shows what it
//! finds.
//!
//! ```text
//! component ─▶ About               what it is: name, contract, imports, settings; as a page
//! cases     ─▶ Suite               each object through the engine's own review, in a world that is written down
//!           ─▶ Laws                generated objects: idempotent, deterministic, the user's word, no leak
//! project   ─▶ Manifest::build     the language's compiler, and a component of what it makes
//! manifests ─▶ Gate                what a whole configuration says of files: findings with file and line
//! ```

mod about;
mod bench;
pub mod files;
mod gate;
mod junit;
mod laws;
mod page;
mod project;
mod said;
mod settings;
mod subject;
mod suite;
mod told;
mod trace;
mod world;

pub use about::{About, AboutError, contract_of};
pub use bench::{Bench, Spread, bench};
pub use files::pasted;
pub use gate::{Finding, Gate, Judged, Level, Live, LiveError, Reviewed, Source, Verdict, junit, sarif};
pub use junit::junit_of_tests;
pub use laws::{Broken, Checked, Draw, Law, Laws, LawsError};
pub use page::{Origin, image_of, page};
pub use project::{
    AdaptError, BuildError, Built, CASES, Language, MANIFEST, Manifest, ManifestError, NewError, Sdk, component,
    new_project,
};
pub use said::{LogLine, listening};
pub use settings::Setting;
pub use subject::{Ask, NotAnObject, load};
pub use suite::{
    Case, CaseError, CaseFile, Checks, Expect, Operation, Pattern, SnapshotError, Suite, SuiteError, Tried, User,
    asked_about_by_nobody, read_cases, snapshot_of_no_case,
};
pub use told::{Told, ToldDenial, ToldEffect, ToldFailure, ToldFill, ToldWarning};
pub use trace::{HostCall, Traced, during};
pub use world::{Given, GivenError, Prepared, Stored};
