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
//! Nothing here prints, asks or ends the process: that is the command's. What holds a secret can't be shown: its `Debug` tells a length.

pub mod audit;
pub mod cluster;
mod folder;
pub mod import;
pub mod live;
pub mod model;
pub mod predict;
pub mod prepare;
pub mod profile;
pub mod reach;
pub mod service;
pub mod source;
pub mod stage;
pub mod store;
pub mod submit;
pub mod upload;
pub mod wait;
