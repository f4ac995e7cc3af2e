//! From the source to a URI that KServe loads, told as it goes.

use anstream::eprintln;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_deployer::model::{Framework, Model};
use tidewaiter_deployer::prepare::{Function, TorchServe};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::source::Source;
use tidewaiter_deployer::stage::{self, Options, Pending, Progress};

use super::super::progress::Bar;
use super::super::stores::TrackingArguments;
use super::super::{Failure, folders};
use super::{Context, note};

/// A model whose place is known.
pub(super) struct Ready {
    /// Where it lies; none for an image of the user's own that brings its model.
    pub(super) uri: Option<String>,
    pub(super) model: Model,
    /// What was asked for, and what it turned out to be.
    pub(super) from: String,
    /// What isn't in the store yet.
    pending: Option<Pending>,
}

/// Finds the model. Nothing is sent yet: what the cluster refuses needn't be in the store.
pub(super) async fn find(context: &Context) -> Result<Ready, Failure> {
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
    let bar = Bar::new();
    let pending = stage::prepare(&source, &options, &|progress| show(&bar, &progress)).await;
    bar.clear();
    let pending = pending.map_err(failed)?;
    let staged = pending.staged();
    eprintln!("{}", staged.origin);
    for line in &staged.notes {
        note(line);
    }
    if staged.uri.as_str().contains('?') {
        note(
            "what stands behind the `?` of this URI will stand in the service, for whoever may see it: keys belong into a Secret (`tidewaiter secret create`)",
        );
    }
    Ok(Ready {
        uri: Some(staged.uri.to_string()),
        model: staged.model.clone(),
        from: staged.origin.asked.clone(),
        pending: Some(pending),
    })
}

fn failed(error: stage::Error) -> Failure {
    Failure {
        next: Some(error.next()),
        message: error.to_string(),
    }
}

impl Ready {
    /// Whether it can be loaded now.
    pub(super) fn is_there(&self) -> bool {
        self.pending.as_ref().is_none_or(Pending::is_there)
    }

    /// Bytes that have to be sent first.
    pub(super) fn to_send(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.staged().sent)
    }

    /// Sends what isn't in the store yet.
    pub(super) async fn send(&mut self) -> Result<(), Failure> {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        if pending.is_there() && pending.staged().reused > 0 {
            eprintln!("The artifact store has these files already: nothing was sent.");
        }
        let bar = Bar::new();
        let sent = pending.send(&|progress| show(&bar, &progress)).await;
        bar.clear();
        sent.map(drop).map_err(failed)
    }
}

/// The end of a sentence about what would be done.
pub(super) fn would_send(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        bytes => format!("; {bytes} bytes would be sent to the artifact store first"),
    }
}

fn show(bar: &Bar, progress: &Progress) {
    match progress {
        Progress::Locating => bar.at("locating", 0, 0),
        Progress::Located { .. } => {}
        Progress::Fetching { done, total } => bar.at("fetching", *done, *total),
        Progress::Preparing => bar.at("preparing", 0, 0),
        Progress::Hashing { done, total } => bar.at("reading", *done, *total),
        Progress::Uploading { done, total } => bar.at("uploading", *done, *total),
    }
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
        pending: None,
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
        scratch: folders::scratch(),
        journal: folders::journal(),
    })
}
