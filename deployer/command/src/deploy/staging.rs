//! From the source to a URI that KServe loads, told as it goes.

use anstream::eprintln;
use tidewaiter_core::uri::StorageUri;
use tidewaiter_deployer::model::{Framework, Model};
use tidewaiter_deployer::prepare::{Function, TorchServe};
use tidewaiter_deployer::profile::Key;
use tidewaiter_deployer::service::Wishes;
use tidewaiter_deployer::source::{self, Source, without_token};
use tidewaiter_deployer::stage::{self, Found, Options, Pending, Progress};

use super::super::progress::Bar;
use super::super::stores::{TrackingArguments, unchecked};
use super::super::{Failure, folders};
use super::arguments::DryRun;
use super::{Context, no_model, note};

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

/// What is to be found, understood from flags and files alone.
pub(super) enum Wanted {
    /// Nothing of it has to be looked at, or can be.
    Unseen {
        framework: Framework,
        uri: Option<String>,
        from: String,
    },
    /// The model of a source.
    Model {
        source: Source,
        options: Box<Options>,
        /// What is served is made of it here, which needs its files.
        is_made: bool,
    },
}

/// A model whose files may be far.
pub(super) enum Sought<'w> {
    Ready(Ready),
    Found(Found<'w>),
}

/// What the user wants deployed. Nobody is asked yet.
pub(super) fn wanted(context: &Context) -> Result<Wanted, Failure> {
    let Some(text) = &context.wishes.source else {
        return Ok(Wanted::Unseen {
            framework: Framework::Custom,
            uri: None,
            from: context.wishes.image.clone().ok_or_else(no_model)?,
        });
    };
    let source: Source = text.parse().map_err(source::Error::from)?;
    let as_it_is = |framework, uri: &StorageUri| Wanted::Unseen {
        framework,
        uri: Some(uri.to_string()),
        from: text.clone(),
    };
    if context.wishes.image.is_some()
        && let Source::Store(uri) = &source
    {
        return Ok(as_it_is(Framework::Custom, uri));
    }
    let is_made = context.wishes.predict.is_some() || torch_serve(&context.wishes).is_some();
    let access = context.arguments.store.access()?;
    // Who says what it is, and has no key to look with, is believed: the cluster may open what this machine can't.
    if let (Source::Store(uri), Some(framework)) = (&source, context.wishes.framework)
        && !is_made
        && !context.arguments.store.opens(uri, &access)?
    {
        note(&unchecked(uri));
        return Ok(as_it_is(framework, uri));
    }
    Ok(Wanted::Model {
        source,
        options: Box::new(options(context, access)?),
        is_made,
    })
}

impl Wanted {
    /// Finds the model. Of one that is far no more than its description is read: what the cluster has against it needn't be fetched.
    pub(super) async fn find(&self, context: &Context) -> Result<Sought<'_>, Failure> {
        let (source, options) = match self {
            Self::Unseen { framework, uri, from } => {
                return Ok(Sought::Ready(unseen(*framework, uri.clone(), from.clone())));
            }
            Self::Model { source, options, .. } => (source, options),
        };
        let bar = Bar::new();
        let found = stage::find(source, options, &|progress| show(&bar, &progress)).await;
        bar.clear();
        match found {
            Ok(found) => Ok(Sought::Found(found)),
            Err(error) => self.believed(context, error).map(Sought::Ready),
        }
    }

    /// Fetches it where it has to be uploaded. Nothing is sent yet: what the cluster refuses needn't be in the store.
    pub(super) async fn fetch(&self, context: &Context, sought: Sought<'_>) -> Result<Ready, Failure> {
        let found = match sought {
            Sought::Ready(ready) => return Ok(ready),
            Sought::Found(found) => found,
        };
        let bar = Bar::new();
        let pending = found.fetch(&|progress| show(&bar, &progress)).await;
        bar.clear();
        let pending = match pending {
            Ok(pending) => pending,
            Err(error) => return self.believed(context, error),
        };
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

    /// The model as the user says it is, where this machine can't open its store: a key of ~/.aws is this user's own, and may be for other stores.
    fn believed(&self, context: &Context, error: stage::Error) -> Result<Ready, Failure> {
        if let Self::Model {
            source: Source::Store(uri),
            is_made: false,
            ..
        } = self
            && let stage::Error::Source(source::Error::Store(why)) = &error
            && let Some(framework) = context.wishes.framework
            && !why.is_not_found()
            && context.arguments.store.keys_for(uri.as_str())?.is_empty()
        {
            note(&format!(
                "nothing of {} was checked: {why}",
                without_token(uri.as_str())
            ));
            let asked = context.wishes.source.clone().unwrap_or_default();
            return Ok(unseen(framework, Some(uri.to_string()), asked));
        }
        Err(failed(error))
    }
}

impl Sought<'_> {
    /// What is known of a model that is still far; its URI is that of the folder which it goes into. None of one that is here, or stays where it is.
    pub(super) fn far(&self) -> Option<Ready> {
        let Self::Found(found) = self else { return None };
        found.is_far().then(|| Ready {
            uri: found.folder().map(|folder| folder.to_string()),
            model: found.model(),
            from: found.origin().asked.clone(),
            pending: None,
        })
    }
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
        model: Model::unseen(framework),
        from,
        pending: None,
    }
}

fn options(context: &Context, stores: tidewaiter_deployer::store::Access) -> Result<Options, Failure> {
    let (arguments, wishes) = (&context.arguments, &context.wishes);
    let store = wishes.artifact_store.as_deref();
    let store = store.or(context.settings.get(Key::ArtifactStore));
    let uri = |text: Option<&str>, what: &str| {
        text.map(StorageUri::parse).transpose().map_err(|error| Failure {
            message: format!("the {what} makes no sense: {error}"),
            next: Some("write it as in s3://models/".to_owned()),
        })
    };
    // An image of the user's own takes whatever it is given, as it is.
    let framework = match &wishes.image {
        Some(_) => Some(Framework::Custom),
        None => wishes.framework,
    };
    Ok(Options {
        framework,
        tracking: TrackingArguments::default().tracking(context.settings.get(Key::TrackingServer))?,
        proxied_root: uri(arguments.artifacts_destination.as_deref(), "artifacts' destination")?,
        stores,
        artifact_store: uri(store, "artifact store")?,
        only_places: arguments.dry_run == Some(DryRun::Client),
        name: context.name.clone(),
        torch_serve: torch_serve(wishes),
        function: function(wishes)?,
        own_image: wishes.image.is_some(),
        scratch: folders::scratch(),
        journal: folders::journal(),
    })
}

/// What becomes an archive; none where nothing of it was wished for.
fn torch_serve(wishes: &Wishes) -> Option<TorchServe> {
    let torch_serve = TorchServe {
        model_class: wishes.model_class.clone(),
        extra_files: wishes.extra_files.clone(),
        requirements: wishes.requirements.clone(),
        ..TorchServe::default()
    };
    let torch_serve = TorchServe {
        handler: wishes.handler.clone().unwrap_or(torch_serve.handler),
        version: wishes.model_version.clone().unwrap_or(torch_serve.version),
        ..torch_serve
    };
    let is_wished = torch_serve != TorchServe::default() || wishes.handler.is_some();
    is_wished.then_some(torch_serve)
}

/// What answers in place of the model alone.
fn function(wishes: &Wishes) -> Result<Option<Function>, Failure> {
    let Some(predict) = &wishes.predict else {
        let beside = [("pre", &wishes.pre), ("post", &wishes.post), ("load", &wishes.load)];
        return match beside.iter().find(|(_, function)| function.is_some()) {
            None => Ok(None),
            Some((name, _)) => Err(Failure {
                message: format!("--{name} stands beside a function that answers, and none was named"),
                next: Some(format!("name it with --predict MODULE.FUNCTION, or leave --{name} out")),
            }),
        };
    };
    Ok(Some(Function {
        predict: predict.clone(),
        pre: wishes.pre.clone(),
        post: wishes.post.clone(),
        load: wishes.load.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(yaml: &str) -> Wishes {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn an_archive_has_what_was_wished_for() {
        assert_eq!(torch_serve(&wishes("{minReplicas: 1}")), None);
        let wished = torch_serve(&wishes(
            "{handler: base_handler, extraFiles: [index.json], requirements: requirements.txt, modelVersion: '2.1'}",
        ));
        let wished = wished.unwrap();
        assert_eq!(wished.extra_files, [std::path::PathBuf::from("index.json")]);
        assert_eq!(wished.requirements, Some("requirements.txt".into()));
        assert_eq!(
            (wished.handler.as_str(), wished.version.as_str()),
            ("base_handler", "2.1")
        );
        assert!(torch_serve(&wishes("handler: base_handler")).is_some());
    }

    #[test]
    fn what_stands_beside_a_function_needs_it() {
        let failure = function(&wishes("post: house.tenfold")).unwrap_err();
        assert!(failure.message.contains("--post"), "{failure}");
        let both = function(&wishes("{predict: house.answer, post: house.tenfold}")).unwrap();
        assert_eq!(
            both.and_then(|function| function.post).as_deref(),
            Some("house.tenfold")
        );
        assert_eq!(function(&wishes("{}")).unwrap(), None);
    }
}
