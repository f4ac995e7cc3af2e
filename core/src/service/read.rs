//! From the JSON text to the view.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Component, Format, Implementation, Model, ParseError, Role, Service, ServiceKind, Storage, raw};
use crate::containers::is_gpu;
use crate::pointer;

/// The container that KServe takes for the model server.
const MAIN_CONTAINER: &str = "kserve-container";
/// The variable by which a custom container names its model.
const STORAGE_URI: &str = "STORAGE_URI";

pub(super) fn inference_service(json: &str) -> Result<Service<'_>, ParseError> {
    let object: raw::InferenceService<'_> = parse(json)?;
    let spec = object.spec.unwrap_or_default();
    let mut components = Vec::with_capacity(1);
    for (role, field, component) in [
        (Role::Predictor, "/spec/predictor", spec.predictor),
        (Role::Transformer, "/spec/transformer", spec.transformer),
        (Role::Explainer, "/spec/explainer", spec.explainer),
    ] {
        components.extend(component.map(|component| read_component(role, field.to_owned(), *component)));
    }
    for (index, entry) in spec.canary.into_iter().flatten().enumerate() {
        if let Some(component) = entry.and_then(|entry| entry.predictor) {
            let mut canary = read_component(
                Role::Canary(index),
                format!("/spec/canary/{index}/predictor"),
                *component,
            );
            if let Some(predictor) = components.iter().find(|other| other.role == Role::Predictor) {
                canary.lay_over(predictor);
            }
            components.push(canary);
        }
    }
    Ok(service(ServiceKind::InferenceService, object.metadata, components))
}

pub(super) fn llm_inference_service(json: &str) -> Result<Service<'_>, ParseError> {
    let object: raw::LlmInferenceService<'_> = parse(json)?;
    let spec = object.spec.unwrap_or_default();
    let mut models = Vec::new();
    if let Some(model) = spec.model {
        push_model(&mut models, model.uri, || "/spec/model/uri".to_owned());
        let adapters = model.lora.and_then(|lora| lora.adapters).unwrap_or_default();
        for (index, adapter) in adapters.into_iter().enumerate() {
            push_model(&mut models, adapter.and_then(|adapter| adapter.uri), || {
                format!("/spec/model/lora/adapters/{index}/uri")
            });
        }
    }
    let mut components = vec![read_workload(
        Role::Workload,
        "/spec",
        models.clone(),
        spec.template,
        spec.worker,
    )];
    if let Some(prefill) = spec.prefill {
        components.push(read_workload(
            Role::Prefill,
            "/spec/prefill",
            models,
            prefill.template,
            prefill.worker,
        ));
    }
    Ok(service(ServiceKind::LlmInferenceService, object.metadata, components))
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ParseError> {
    serde_json::from_str(json).map_err(|error| {
        let before: usize = json
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum();
        let message = error.to_string();
        let reason = message
            .rsplit_once(" at line ")
            .map_or(message.as_str(), |(reason, _)| reason);
        ParseError::Field {
            pointer: pointer::at(json, before + error.column()),
            reason: reason.to_owned(),
        }
    })
}

fn service<'a>(kind: ServiceKind, metadata: Option<raw::Metadata<'a>>, components: Vec<Component<'a>>) -> Service<'a> {
    let metadata = metadata.unwrap_or_default();
    Service {
        kind,
        name: text(metadata.name),
        annotations: metadata.annotations.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.0,
        components,
    }
}

/// A text; none where it is empty, which is what KServe takes an empty one for.
fn text(text: Option<raw::Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

fn push_model<'a>(models: &mut Vec<Model<'a>>, uri: Option<raw::Text<'a>>, pointer: impl FnOnce() -> String) {
    models.extend(text(uri).map(|uri| Model {
        uri,
        pointer: pointer(),
    }));
}

fn read_component(role: Role, at: String, mut component: raw::Component<'_>) -> Component<'_> {
    let mut models = Vec::new();
    let containers = component.containers.unwrap_or_default();
    let mut gpu = containers
        .iter()
        .chain(
            component
                .worker_spec
                .iter()
                .flat_map(|worker| worker.containers.iter().flatten()),
        )
        .flatten()
        .any(asks_for_gpu);
    let fields = [
        ("model", component.model.take()),
        ("sklearn", component.sklearn.take()),
        ("xgboost", component.xgboost.take()),
        ("tensorflow", component.tensorflow.take()),
        ("pytorch", component.pytorch.take()),
        ("triton", component.triton.take()),
        ("onnx", component.onnx.take()),
        ("huggingface", component.huggingface.take()),
        ("pmml", component.pmml.take()),
        ("lightgbm", component.lightgbm.take()),
        ("paddle", component.paddle.take()),
        ("art", component.art.take()),
    ];
    let implementation = fields
        .into_iter()
        .find_map(|(field, implementation)| Some((field, implementation?)));
    let implementation = match implementation {
        Some((field, implementation)) => {
            gpu |= implementation.resources.as_ref().is_some_and(has_gpu);
            Some(read_implementation(
                field,
                pointer::child(&at, field),
                *implementation,
                &mut models,
            ))
        }
        None => read_custom(&at, containers, role, &mut models),
    };
    let storage_uris = component.storage_uris.is_some();
    let multi_node = component.worker_spec.is_some();
    for (index, entry) in component.storage_uris.into_iter().flatten().enumerate() {
        push_model(&mut models, entry.and_then(|entry| entry.uri), || {
            format!("{at}/storageUris/{index}/uri")
        });
    }
    Component {
        role,
        service_account_pointer: format!("{at}/serviceAccountName"),
        pointer: at,
        service_account_name: component.service_account_name.map(|name| name.0),
        models,
        implementation,
        gpu,
        multi_node,
        storage_uris,
        annotations: component.annotations.unwrap_or_default(),
    }
}

fn read_implementation<'a>(
    field: &'static str,
    pointer: String,
    implementation: raw::Implementation<'a>,
    models: &mut Vec<Model<'a>>,
) -> Implementation<'a> {
    push_model(models, implementation.storage_uri, || format!("{pointer}/storageUri"));
    let format = match (field, implementation.model_format) {
        ("model", format) => format.and_then(|format| {
            Some(Format {
                name: text(format.name)?,
                version: text(format.version),
            })
        }),
        ("art", _) => None,
        (framework, _) => Some(Format {
            name: framework.into(),
            version: None,
        }),
    };
    Implementation {
        field,
        pointer,
        storage: implementation.storage.map(|storage| Storage {
            key: text(storage.key),
            path: text(storage.path),
            parameters: storage.parameters.0,
        }),
        runtime: text(implementation.runtime),
        runtime_version: text(implementation.runtime_version),
        protocol_version: text(implementation.protocol_version),
        image: text(implementation.image),
        format,
        uri_from_elsewhere: false,
    }
}

/// A custom component: KServe looks for the URI in a predictor's `kserve-container`, which is what the only one is called in the end, and in the first
/// container of a transformer or explainer.
fn read_custom<'a>(
    at: &str,
    containers: Vec<Option<raw::Container<'a>>>,
    role: Role,
    models: &mut Vec<Model<'a>>,
) -> Option<Implementation<'a>> {
    let name = |container: &Option<raw::Container<'_>>| {
        container
            .as_ref()
            .and_then(|container| container.name.as_ref())
            .map(|name| name.0.to_string())
            .unwrap_or_default()
    };
    let is_predictor = matches!(role, Role::Predictor | Role::Canary(_));
    let index = if is_predictor {
        let named = containers
            .iter()
            .position(|container| name(container) == MAIN_CONTAINER);
        named.or_else(|| {
            containers
                .first()
                .is_some_and(|first| containers.len() == 1 || name(first).is_empty())
                .then_some(0)
        })?
    } else {
        0
    };
    let container = containers.into_iter().nth(index)??;
    let pointer = format!("{at}/containers/{index}");
    let mut uri_from_elsewhere = false;
    for (place, variable) in container.env.into_iter().flatten().enumerate() {
        if let Some(variable) = variable
            && variable.name.is_some_and(|name| name.0 == STORAGE_URI)
        {
            uri_from_elsewhere = variable.value_from.0;
            push_model(models, variable.value, || format!("{pointer}/env/{place}/value"));
            break;
        }
    }
    Some(Implementation {
        field: "containers",
        pointer,
        storage: None,
        runtime: None,
        runtime_version: None,
        protocol_version: None,
        image: None,
        format: None,
        uri_from_elsewhere,
    })
}

fn read_workload<'a>(
    role: Role,
    at: &str,
    models: Vec<Model<'a>>,
    template: Option<raw::PodSpec<'a>>,
    worker: Option<raw::PodSpec<'a>>,
) -> Component<'a> {
    let gpu = [&template, &worker]
        .into_iter()
        .flatten()
        .flat_map(|pod| pod.containers.iter().flatten())
        .flatten()
        .any(asks_for_gpu);
    let multi_node = worker.is_some();
    // A template's ServiceAccount counts before a worker's (workload_multi_node.go).
    let named = |pod: Option<raw::PodSpec<'a>>| pod.and_then(|pod| pod.service_account_name).map(|name| name.0);
    let (template, worker) = (named(template), named(worker));
    let service_account_name = if template.as_deref().is_none_or(str::is_empty) {
        worker.or(template)
    } else {
        template
    };
    Component {
        role,
        pointer: at.to_owned(),
        service_account_name,
        service_account_pointer: format!("{at}/template/serviceAccountName"),
        models,
        implementation: None,
        gpu,
        multi_node,
        storage_uris: false,
        annotations: raw::Strings::default(),
    }
}

fn asks_for_gpu(container: &raw::Container<'_>) -> bool {
    container.resources.as_ref().is_some_and(has_gpu)
}

fn has_gpu(resources: &raw::Resources<'_>) -> bool {
    [&resources.limits, &resources.requests]
        .into_iter()
        .flatten()
        .flat_map(|quantities| &quantities.0)
        .any(|(name, quantity)| is_gpu(&name.0) && !matches!(quantity.get().trim_matches('"'), "0" | "" | "null"))
}
