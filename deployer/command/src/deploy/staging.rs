//! From the source to a URI that KServe loads, told as it goes.

use std::io::IsTerminal as _;
use std::sync::Mutex;

use anstream::eprintln;
use indicatif::{ProgressBar, ProgressStyle};
use tidewaiter_core::uri::StorageUri;
use tidewaiter_deployer::model::{Framework, Model};
use tidewaiter_deployer::prepare::{Function, TorchServe};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::source::Source;
use tidewaiter_deployer::stage::{self, Options, Progress};

use super::super::Failure;
use super::super::stores::TrackingArguments;
use super::{Context, note};

/// A model that KServe can load.
pub(super) struct Ready {
    /// Where it lies; none for an image of the user's own that brings its model.
    pub(super) uri: Option<String>,
    pub(super) model: Model,
    /// What was asked for, and what it turned out to be.
    pub(super) from: String,
    /// It was put there for this service.
    pub(super) uploaded: bool,
}

pub(super) async fn stage(context: &Context) -> Result<Ready, Failure> {
    let Some(text) = &context.arguments.source else {
        return Ok(unseen(
            Framework::Custom,
            None,
            context.wishes.image.clone().unwrap_or_default(),
        ));
    };
    let source: Source = text
        .parse()
        .map_err(|error: tidewaiter_deployer::source::SourceError| Failure {
            next: Some(error.next().to_owned()),
            message: error.to_string(),
        })?;
    let access = context.arguments.store.access()?;
    // Who says what it is, and has no key to look with, is believed: the cluster may open what this machine can't.
    if let (Source::Store(uri), Some(framework)) = (&source, context.wishes.framework)
        && context.arguments.store.keys_for(uri.as_str())?.is_empty()
        && context.arguments.predict.is_none()
    {
        return Ok(unseen(framework, Some(uri.to_string()), text.clone()));
    }
    if context.wishes.image.is_some()
        && let Source::Store(uri) = &source
    {
        return Ok(unseen(Framework::Custom, Some(uri.to_string()), text.clone()));
    }
    let options = options(context, access)?;
    let told = Told::new();
    let staged = stage::stage(&source, &options, &|progress| told.tell(&progress)).await;
    told.done();
    let staged = staged.map_err(|error| Failure {
        next: Some(error.next()),
        message: error.to_string(),
    })?;
    if options.dry_run && staged.sent > 0 {
        eprintln!("{} bytes would be sent to the artifact store.", staged.sent);
    } else if staged.sent == 0 && staged.reused > 0 {
        eprintln!("The artifact store has these files already: nothing was sent.");
    }
    eprintln!("{}", staged.origin);
    for line in &staged.notes {
        note(line);
    }
    Ok(Ready {
        uri: Some(staged.uri.to_string()),
        model: staged.model,
        from: staged.origin.asked.clone(),
        uploaded: staged.sent + staged.reused > 0,
    })
}

fn unseen(framework: Framework, uri: Option<String>, from: String) -> Ready {
    Ready {
        uri,
        model: Model {
            framework,
            versions: std::collections::BTreeMap::new(),
            signature: None,
            input_example: None,
            has_environment: false,
            bytes: 0,
            files: 0,
        },
        from,
        uploaded: false,
    }
}

fn options(context: &Context, stores: tidewaiter_deployer::store::Access) -> Result<Options, Failure> {
    let arguments = &context.arguments;
    let uri = |text: Option<&str>, what: &str| {
        text.map(StorageUri::parse).transpose().map_err(|error| Failure {
            message: format!("the {what} makes no sense: {error}"),
            next: Some("write it as in s3://models/".to_owned()),
        })
    };
    let torch_serve = (arguments.model_class.is_some() || arguments.handler.is_some()).then(|| {
        let mut wished = TorchServe {
            model_class: arguments.model_class.clone(),
            ..TorchServe::default()
        };
        if let Some(handler) = &arguments.handler {
            wished.handler.clone_from(handler);
        }
        wished
    });
    Ok(Options {
        framework: context.wishes.framework,
        tracking: TrackingArguments::default().tracking(context.settings.get(Key::TrackingServer))?,
        proxied_root: uri(arguments.artifacts_destination.as_deref(), "artifacts' destination")?,
        stores,
        artifact_store: uri(context.settings.get(Key::ArtifactStore), "artifact store")?,
        name: context.name.clone(),
        torch_serve,
        function: arguments.predict.as_ref().map(|predict| Function {
            predict: predict.clone(),
            pre: arguments.pre.clone(),
            post: arguments.post.clone(),
            load: arguments.load.clone(),
        }),
        scratch: None,
        dry_run: arguments.diff || arguments.dry_run.is_some(),
    })
}

/// A bar on a terminal; elsewhere a line for each step.
struct Told {
    bar: Option<ProgressBar>,
    last: Mutex<&'static str>,
}

impl Told {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            last: Mutex::new(""),
        }
    }

    fn tell(&self, progress: &Progress) {
        let (what, done, total) = match progress {
            Progress::Locating => ("locating", 0, 0),
            Progress::Located { .. } => return,
            Progress::Fetching { done, total } => ("fetching", *done, *total),
            Progress::Preparing => ("preparing", 0, 0),
            Progress::Hashing { done, total } => ("hashing", *done, *total),
            Progress::Uploading { done, total } => ("uploading", *done, *total),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(what);
        } else if let Ok(mut last) = self.last.lock() {
            if *last != what && done < total && matches!(what, "fetching" | "uploading") {
                eprintln!("{what} {total} bytes");
            }
            *last = what;
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
