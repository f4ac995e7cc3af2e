//! Flags over a file: who says something closer to the command has the last word.

use std::collections::BTreeMap;

use super::wishes::{Resources, Wishes};

impl Wishes {
    /// These wishes, and where they say nothing those of `weaker`. Maps are joined by their keys.
    #[must_use]
    pub fn over(self, weaker: Self) -> Self {
        // Either of the two says how few Pods there may be: the stronger one's word is the only one.
        let (min_replicas, scale_to_zero) = if self.min_replicas.is_some() || self.scale_to_zero.is_some() {
            (self.min_replicas, self.scale_to_zero)
        } else {
            (weaker.min_replicas, weaker.scale_to_zero)
        };
        // An own image and a runtime exclude each other, and a version belongs to its runtime.
        let (image, runtime, runtime_version) = if self.image.is_some() || self.runtime.is_some() {
            (self.image, self.runtime, self.runtime_version)
        } else {
            (
                weaker.image,
                weaker.runtime,
                self.runtime_version.or(weaker.runtime_version),
            )
        };
        // A Secret is in place of a ServiceAccount, and what belongs to a function belongs to that one.
        let (service_account_name, secret) = if self.service_account_name.is_some() || self.secret.is_some() {
            (self.service_account_name, self.secret)
        } else {
            (weaker.service_account_name, weaker.secret)
        };
        let of_function = if self.predict.is_some() {
            [None, None, None]
        } else {
            [weaker.pre, weaker.post, weaker.load]
        };
        let [pre, post, load] = of_function;
        Self {
            name: self.name.or(weaker.name),
            namespace: self.namespace.or(weaker.namespace),
            framework: self.framework.or(weaker.framework),
            protocol: self.protocol.or(weaker.protocol),
            min_replicas,
            max_replicas: self.max_replicas.or(weaker.max_replicas),
            scale_to_zero,
            scale_target: self.scale_target.or(weaker.scale_target),
            scale_metric: self.scale_metric.or(weaker.scale_metric),
            resources: Resources {
                requests: joined(self.resources.requests, weaker.resources.requests),
                limits: joined(self.resources.limits, weaker.resources.limits),
            },
            gpus: self.gpus.or(weaker.gpus),
            gpu_resource: self.gpu_resource.or(weaker.gpu_resource),
            timeout: self.timeout.or(weaker.timeout),
            env: joined(self.env, weaker.env),
            allow_missing: if self.allow_missing.is_empty() {
                weaker.allow_missing
            } else {
                self.allow_missing
            },
            args: if self.args.is_empty() { weaker.args } else { self.args },
            node_selector: joined(self.node_selector, weaker.node_selector),
            labels: joined(self.labels, weaker.labels),
            annotations: joined(self.annotations, weaker.annotations),
            canary_traffic_percent: self.canary_traffic_percent.or(weaker.canary_traffic_percent),
            transformer: self.transformer.or(weaker.transformer),
            explainer: self.explainer.or(weaker.explainer),
            image,
            runtime,
            runtime_version,
            service_account_name,
            secret,
            deployment_mode: self.deployment_mode.or(weaker.deployment_mode),
            source: self.source.or(weaker.source),
            artifact_store: self.artifact_store.or(weaker.artifact_store),
            predict: self.predict.or(weaker.predict),
            pre: self.pre.or(pre),
            post: self.post.or(post),
            load: self.load.or(load),
            model_class: self.model_class.or(weaker.model_class),
            handler: self.handler.or(weaker.handler),
            extra_files: if self.extra_files.is_empty() {
                weaker.extra_files
            } else {
                self.extra_files
            },
            requirements: self.requirements.or(weaker.requirements),
            model_version: self.model_version.or(weaker.model_version),
            graph: self.graph.or(weaker.graph),
            steps: if self.steps.is_empty() {
                weaker.steps
            } else {
                self.steps
            },
            server: self.server.or(weaker.server),
            memory: self.memory.or(weaker.memory),
        }
    }
}

fn joined(mut stronger: BTreeMap<String, String>, weaker: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (key, value) in weaker {
        stronger.entry(key).or_insert(value);
    }
    stronger
}
