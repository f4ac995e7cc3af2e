//! What an admin does from outside of the cluster: the library under the command `tidewaiter`.
//!
//! ```text
//!   cluster     a client by kubeconfig and context; errors that say what was asked, and what to do
//!     ▲
//!   import      Secrets that are there ─▶ Found ─▶ Plan (pure) ─▶ StorageBackends and the Secrets they name
//!   audit       PolicyReports ─▶ findings; a service is handed to the webhook, and adopted by it
//!
//!   stage       words ─▶ source ─▶ prepare ─▶ upload ─▶ a URI that KServe loads, and the model that is there
//!   store       buckets of S3, Google Cloud Storage and Azure
//!   service     wishes, model and URI ─▶ an InferenceService (pure)
//!   submit      a dry run that says what would become of it; server-side apply; credentials where nobody else brings them
//!   wait        watches until it answers; else the cause, told as a person would
//!   live        services that are deployed: list, status, logs; stop, scale, split, delete
//!     ▲
//!   reach       a service ─▶ the way to it from here: an ingress that is found, or a forwarded port of a Pod
//!     ▲
//!   predict     JSON, CSV, an example ─▶ a request by REST or gRPC ─▶ the model's answer
//! ```
//!
//! A deployment, from what a user wrote to an endpoint that answers:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use tidewaiter_deployer::cluster::{Access, Cluster};
//! use tidewaiter_deployer::service::Wishes;
//! use tidewaiter_deployer::source::{Auth, Source, Tracking};
//! use tidewaiter_deployer::submit::{self, Deployment};
//! use tidewaiter_deployer::wait::{self, Outcome, Sent};
//! use tidewaiter_deployer::stage;
//!
//! # async fn deploy() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::connect(&Access::default()).await?;
//! let source: Source = "models:/fraud@champion".parse()?;
//! let options = stage::Options {
//!     tracking: Some(Tracking {
//!         server: "https://mlflow.example".to_owned(),
//!         auth: Auth::None,
//!         ca_bundle: None,
//!         insecure: false,
//!         timeout: None,
//!     }),
//!     name: "fraud".to_owned(),
//!     ..stage::Options::default()
//! };
//! let pending = stage::prepare(&source, &options, &|_| ()).await?;
//! let staged = pending.staged().clone();
//!
//! let seen = submit::look(&cluster, "team-a", "fraud", "kserve").await?;
//! let wishes = Wishes::default();
//! let deployment = Deployment {
//!     cluster: &cluster,
//!     namespace: "team-a",
//!     name: "fraud",
//!     seen: &seen,
//!     wishes: &wishes,
//!     model: &staged.model,
//!     uri: Some(staged.uri.as_str()),
//!     secret: None,
//!     store: None,
//!     force: false,
//! };
//! let mut planned = deployment.plan(pending.is_there()).await?;
//! if !pending.is_there() {
//!     pending.send(&|_| ()).await?;
//!     planned = deployment.plan_again(&planned).await?;
//! }
//! let submitted = deployment.submit(&planned, "models:/fraud@champion", |_| ()).await?;
//!
//! let options = wait::Options {
//!     namespace: "team-a".to_owned(),
//!     name: "fraud".to_owned(),
//!     timeout: Duration::from_mins(10),
//!     sent: Some(Sent::of(&submitted.service)),
//! };
//! match wait::wait(&cluster, &options, |_| ()).await? {
//!     Outcome::Ready { url, .. } => assert!(url.is_some()),
//!     Outcome::Failed(finding) => return Err(finding.message.into()),
//!     other => return Err(format!("{other:?}").into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here prints, asks or ends the process: that is the command's. What holds a secret can't be shown: its `Debug` tells a length.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro, clippy::exit)]

pub mod audit;
pub mod cluster;
mod folder;
pub mod import;
pub mod live;
pub mod model;
pub mod predict;
pub mod prepare;
pub mod profile;
mod proxy;
pub mod reach;
pub mod service;
pub mod source;
pub mod stage;
pub mod store;
pub mod submit;
pub mod upload;
pub mod wait;
