//! A model's way into one service: what would become of it, and the submission itself, with the credentials that nobody else brings.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::apply::{Proposal, apply, propose};
use super::conflict::SubmitError;
use super::credentials::{Delivered, Delivery, bind, deliver, would_deliver};
use super::history::{with_entry, with_history_of};
use super::look::{Seen, may_be_reviewed};
use super::store::Store;
use crate::cluster::{Cluster, kinds};
use crate::model::Model;
use crate::service::{Built, Wishes, build};

/// Has Tidewaiter's policy `model-exists` admit a service whose model comes later.
const ALLOW_MISSING_MODEL: &str = "tidewaiter.dev/allow-missing-model";
/// For how long, and more, Tidewaiter takes a file for missing that it didn't find.
const MISSED: Duration = Duration::from_secs(1);

/// A model, and the service that it is for.
#[derive(Clone, Copy)]
pub struct Deployment<'a> {
    /// Where the service is to be.
    pub cluster: &'a Cluster,
    /// The service's namespace.
    pub namespace: &'a str,
    /// The service's name.
    pub name: &'a str,
    /// The cluster and the service as [`look`](super::look) found them.
    pub seen: &'a Seen,
    /// How it is to be served.
    pub wishes: &'a Wishes,
    /// What is to be served.
    pub model: &'a Model,
    /// Where the model lies, or will; none for an image that brings its own.
    pub uri: Option<&'a str>,
    /// The Secret in the namespace that opens the model's store, which KServe is told of by its annotation or by the account of the same name.
    pub secret: Option<&'a str>,
    /// Keys for the model's store. They are put into the namespace where Tidewaiter doesn't bring any.
    pub store: Option<&'a Store>,
    /// Takes over fields that others manage.
    pub force: bool,
}

/// What would become of the service.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The object, and what was decided on the way to it.
    pub built: Built,
    /// What the API server and its webhooks make of it.
    pub proposal: Proposal,
    /// The given keys are put into the namespace.
    pub brings_keys: bool,
    /// When the webhooks looked at it.
    asked: Instant,
}

/// What became of it.
pub struct Submitted {
    /// The service as it is stored.
    pub service: DynamicObject,
    /// Nothing was to be done: it was deployed already.
    pub is_same: bool,
}

/// A step beside the service itself, told as it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The Secret and the ServiceAccount of this name were made.
    Made(String),
    /// What the user should know, in a sentence.
    Remark(String),
}

impl<'a> Deployment<'a> {
    /// What the Secret and the ServiceAccount are called that are made for the service.
    pub fn account(&self) -> String {
        format!("{}-store", self.name)
    }

    /// The object as it would be where Tidewaiter isn't, since that shows in the API server's answer alone. Asks nobody.
    ///
    /// # Errors
    /// A wish that KServe or this cluster can't fulfil.
    pub fn build(&self) -> Result<Built, SubmitError> {
        self.made(self.store.is_some(), true)
    }

    /// Whether the wishes agree with each other, the model and the cluster, as far as nobody has to be asked: also for a model that is still far, whose URI here may be
    /// the folder that it goes into. What is refused here, [`plan`](Self::plan) and [`build`](Self::build) refuse.
    ///
    /// # Errors
    /// A wish that KServe or this cluster can't fulfil.
    pub fn check(&self) -> Result<(), SubmitError> {
        self.made(false, false).map(drop)
    }

    /// Makes the object and asks the API server what would become of it; stores nothing. `is_there`: the model is in its store by now. Before that, a policy that
    /// looks for it has to be told that it comes.
    ///
    /// # Errors
    /// Where it can't be made, or is refused.
    pub async fn plan(&self, is_there: bool) -> Result<Planned, SubmitError> {
        let (mut built, mut proposal) = self.pinned(is_there).await?;
        // Where Tidewaiter brings them, nobody else has to.
        let brings_keys = self.store.is_some() && !proposal.has_credentials();
        if brings_keys {
            built = self.made(true, !proposal.is_reviewed())?;
            proposal = self.asked(&built, is_there).await?;
        }
        if let Some(share) = proposal.kept_share(&built.object, self.before()) {
            built.remarks.push(format!(
                "Knative leads {share} % of the requests to what is deployed now, and the others to what was before, as an earlier rollback or split said: \
                 `tidewaiter promote {}` leads all of them here",
                self.name
            ));
        }
        Ok(Planned {
            built,
            proposal,
            brings_keys,
            asked: Instant::now(),
        })
    }

    /// Whether the keys may be put into the namespace, where the plan has them brought. Stores nothing: a right that is missing is told before a model is sent for
    /// nothing.
    ///
    /// # Errors
    /// Where they may not, or what would be written is somebody else's.
    pub async fn may_bring(&self, planned: &Planned) -> Result<(), SubmitError> {
        match self.store.filter(|_| planned.brings_keys) {
            Some(store) => {
                let account = self.account();
                let delivery = self.delivery(store, self.before(), &account);
                would_deliver(self.cluster, &delivery).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// The plan once more, for a model that is in its store now, and wasn't at the first plan. Webhooks look into the model.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan).
    pub async fn plan_again(&self, planned: &Planned) -> Result<Planned, SubmitError> {
        if planned.proposal.is_reviewed() || may_be_reviewed(self.cluster).await {
            sleep_until(planned.asked + MISSED).await;
        }
        self.plan(true).await
    }

    /// Stores the service, if nobody changed it since it was looked at, and its credentials where the plan has them brought. `from` is what the user asked for, for
    /// its history. Nothing half-made stays: where the service can't be stored, what was made for it is taken away again.
    ///
    /// # Errors
    /// As for [`apply`](super::apply).
    pub async fn submit(
        &self,
        planned: &Planned,
        from: &str,
        mut tell: impl FnMut(Step),
    ) -> Result<Submitted, SubmitError> {
        let delivered = match self.store.filter(|_| planned.brings_keys) {
            Some(store) => Some((store, self.bring(store, planned, &mut tell).await?)),
            None => None,
        };
        if planned.proposal.is_same {
            return Ok(Submitted {
                service: planned.proposal.applied.object.clone(),
                is_same: true,
            });
        }
        let object = if planned.proposal.restarts {
            with_entry(self.cluster, planned.built.object.clone(), self.before(), from).await
        } else {
            self.with_history(&planned.built)
        };
        let kind = &kinds::INFERENCE_SERVICE;
        let applied = match apply(self.cluster, kind, &object, self.before(), self.force).await {
            Ok(applied) => applied,
            Err(error) => {
                if let Some((_, delivered)) = &delivered {
                    self.take_back(delivered, &mut tell).await;
                }
                return Err(error);
            }
        };
        if let (Some((store, delivered)), None) = (&delivered, self.before()) {
            let owned = self.delivery(store, Some(&applied.object), &delivered.name);
            // The service is stored by now, and what happens to it is what counts.
            if let Err(error) = bind(self.cluster, &owned, delivered).await {
                tell(Step::Remark(format!(
                    "the Secret and the ServiceAccount {} won't go with the service when it is deleted: {error}",
                    delivered.name
                )));
            }
        }
        Ok(Submitted {
            service: applied.object,
            is_same: false,
        })
    }

    fn before(&self) -> Option<&'a DynamicObject> {
        self.seen.service.as_ref()
    }

    /// First without a pin, which is Tidewaiter's where it is; with one where it isn't.
    async fn pinned(&self, is_there: bool) -> Result<(Built, Proposal), SubmitError> {
        let built = self.made(false, false)?;
        let proposal = self.asked(&built, is_there).await?;
        if proposal.is_reviewed() {
            return Ok((built, proposal));
        }
        let pinned = self.made(false, true)?;
        if pinned.object == built.object {
            return Ok((pinned, proposal));
        }
        let proposal = self.asked(&pinned, is_there).await?;
        Ok((pinned, proposal))
    }

    async fn asked(&self, built: &Built, is_there: bool) -> Result<Proposal, SubmitError> {
        let before = self.before();
        let mut object = self.with_history(built);
        let comes_later = !is_there && object["metadata"]["annotations"][ALLOW_MISSING_MODEL].is_null();
        if comes_later {
            object["metadata"]["annotations"][ALLOW_MISSING_MODEL] = json!("true");
        }
        let mut proposal = propose(self.cluster, &kinds::INFERENCE_SERVICE, &object, before, self.force).await?;
        if comes_later {
            // It isn't in what is submitted, and so in nothing that is shown.
            let annotation =
                |object: &DynamicObject| object.metadata.annotations.as_ref()?.get(ALLOW_MISSING_MODEL).cloned();
            let kept = before.and_then(annotation);
            let annotations = proposal.applied.object.metadata.annotations.get_or_insert_default();
            match kept {
                Some(value) => annotations.insert(ALLOW_MISSING_MODEL.to_owned(), value),
                None => annotations.remove(ALLOW_MISSING_MODEL),
            };
        }
        Ok(proposal)
    }

    fn made(&self, with_account: bool, pins: bool) -> Result<Built, SubmitError> {
        let mut wishes = self.wishes.clone();
        wishes.name = Some(self.name.to_owned());
        if with_account {
            wishes.service_account_name = Some(self.account());
        }
        if let Some(secret) = self.secret
            && wishes.service_account_name.is_none()
        {
            wishes.secret = None;
            match &self.seen.facts.config.secret_annotation {
                Some(annotation) => {
                    wishes
                        .annotations
                        .entry(annotation.clone())
                        .or_insert_with(|| secret.to_owned());
                }
                // `tidewaiter secret create` makes an account of the Secret's name.
                None => wishes.service_account_name = Some(secret.to_owned()),
            }
        }
        // With the account of an earlier deployment, where this one has no keys.
        let account = self.account();
        if wishes.service_account_name.is_none()
            && self.secret.is_none()
            && let Some(service) = self.before()
            && service.data["spec"]["predictor"]["serviceAccountName"] == account
        {
            wishes.service_account_name = Some(account);
        }
        Ok(build(
            &wishes,
            self.model,
            self.uri,
            self.namespace,
            &self.seen.facts,
            pins,
        )?)
    }

    fn with_history(&self, built: &Built) -> Value {
        with_history_of(built.object.clone(), self.before())
    }

    /// For this service alone, and with its owner where that is there already.
    fn delivery<'d>(&'d self, store: &'d Store, owner: Option<&'d DynamicObject>, name: &'d str) -> Delivery<'d> {
        Delivery {
            store,
            name,
            namespace: self.namespace,
            config: &self.seen.facts.config,
            service: Some(self.name),
            owner,
        }
    }

    async fn bring(
        &self,
        store: &Store,
        planned: &Planned,
        tell: &mut impl FnMut(Step),
    ) -> Result<Delivered, SubmitError> {
        let account = self.account();
        let delivered = deliver(self.cluster, &self.delivery(store, self.before(), &account)).await?;
        if delivered.is_new {
            tell(Step::Made(delivered.name.clone()));
        } else if delivered.is_changed && planned.proposal.is_same {
            tell(Step::Remark(format!(
                "the Secret {} has the keys given now; Pods that run go on with those they began with",
                delivered.name
            )));
        }
        Ok(delivered)
    }

    /// Credentials go with the service that they were for.
    async fn take_back(&self, delivered: &Delivered, tell: &mut impl FnMut(Step)) {
        if !delivered.is_new {
            return;
        }
        let client = self.cluster.client();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), self.namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), self.namespace);
        // As they were made: who deploys the same service at once may have taken them over.
        let [secret, account] = delivered.made().map(|made| DeleteParams {
            preconditions: Some(made),
            ..DeleteParams::default()
        });
        let gone = futures::join!(
            secrets.delete(&delivered.name, &secret),
            accounts.delete(&delivered.name, &account)
        );
        let kept = |error: Option<kube::Error>| {
            error.is_some_and(|error| !matches!(error, kube::Error::Api(status) if status.code == 409))
        };
        if kept(gone.0.err()) || kept(gone.1.err()) {
            tell(Step::Remark(format!(
                "the Secret and the ServiceAccount {} are still there",
                delivered.name
            )));
        }
    }
}

#[cfg(test)]
#[path = "deployment_tests.rs"]
mod tests;
