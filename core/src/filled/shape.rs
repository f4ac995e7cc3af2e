//! What KServe's API takes at a place of a service's `spec`: a text, a number, a list.
//!
//! A fill is read alone, as what it becomes with the objects and lists around it: the user's own words are the API server's to judge. A member that isn't known
//! here says nothing, since the API server drops it or knows it from a later version.

mod fields;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value, json};

use super::{canonical, is_model, metadata};
use crate::document::{Document, Path};
use crate::lines;
use crate::quantity::Quantity;

/// Whether the API server takes the object with this value at this place, for what is known of the kind. Parents that are missing in the object become objects.
///
/// # Errors
/// The reason, for the author of who fills it in.
pub fn check(kind: &str, place: &Path, value: &Value, object: &Document) -> Result<(), String> {
    let judge = match kind {
        "InferenceService" => inference_service,
        "LLMInferenceService" => llm_inference_service,
        _ => return Ok(()),
    };
    if place.segments()[0] != "spec" {
        return Ok(());
    }
    let mut spec = around(place, value, object);
    as_read(&mut spec)?;
    judge(&spec)
}

/// The `spec` in which nothing stands but this.
fn around(place: &Path, value: &Value, object: &Document) -> Value {
    let path = canonical(place);
    let mut inner = value.clone();
    for (depth, segment) in path.segments().iter().enumerate().skip(1).rev() {
        let parent = &place.segments()[..depth];
        let in_list =
            segment.parse::<usize>().is_ok() && object.get_in(parent).is_some_and(|text| text.starts_with('['));
        inner = if in_list {
            json!([inner])
        } else {
            json!({segment: inner})
        };
    }
    inner
}

/// Turns a value into the form in which Kubernetes' types are read: the API server drops members that are `null`, and takes `1.0` for an integer. What an amount
/// says is looked at here, since the generated types don't.
fn as_read(value: &mut Value) -> Result<(), String> {
    match value {
        Value::Number(number) => {
            if let Some(whole) = whole(number) {
                *number = whole;
            }
        }
        Value::Array(elements) => elements.iter_mut().try_for_each(as_read)?,
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            for (name, value) in members {
                as_read(value)?;
                match name.as_str() {
                    "resources" => {
                        amounts(value.get("limits"))?;
                        amounts(value.get("requests"))?;
                    }
                    "overhead" => amounts(Some(value))?,
                    "emptyDir" => value.get("sizeLimit").map_or(Ok(()), amount)?,
                    "resourceFieldRef" => value.get("divisor").map_or(Ok(()), amount)?,
                    _ => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn whole(number: &Number) -> Option<Number> {
    let float = number
        .as_f64()
        .filter(|float| number.is_f64() && float.fract() == 0.0)?;
    format!("{float:.0}").parse::<i64>().ok().map(Number::from)
}

fn amounts(value: Option<&Value>) -> Result<(), String> {
    let amounts = value.and_then(Value::as_object).into_iter().flatten();
    amounts.map(|(_, value)| value).try_for_each(amount)
}

/// A whole number, or a text.
fn amount(value: &Value) -> Result<(), String> {
    let is_none = match value {
        Value::Number(number) => number.is_f64(),
        Value::String(text) => Quantity::parse(text).is_none(),
        _ => false,
    };
    if is_none {
        return Err(format!("{} is no amount, such as 500m or 2Gi", lines::value(value)));
    }
    Ok(())
}

fn inference_service(spec: &Value) -> Result<(), String> {
    for name in ["predictor", "transformer", "explainer"] {
        spec.get(name).map_or(Ok(()), component)?;
    }
    let Some(canary) = spec.get("canary") else {
        return Ok(());
    };
    read::<Vec<fields::Canary>>(canary)?;
    let predictors = canary.as_array().into_iter().flatten();
    predictors
        .filter_map(|canary| canary.get("predictor"))
        .try_for_each(component)
}

fn component(component: &Value) -> Result<(), String> {
    read::<PodSpec>(component)?;
    read::<fields::Component>(component)?;
    of_pods(component)?;
    if let Some(worker) = component.get("workerSpec") {
        read::<PodSpec>(worker)?;
        read::<fields::Worker>(worker)?;
    }
    for (name, implementation) in component.as_object().into_iter().flatten() {
        if is_model(name) || name == "art" {
            read::<Container>(implementation)?;
            read::<fields::Model>(implementation)?;
        }
    }
    Ok(())
}

fn llm_inference_service(spec: &Value) -> Result<(), String> {
    read::<fields::Llm>(spec)?;
    for workload in [Some(spec), spec.get("prefill")].into_iter().flatten() {
        read::<fields::Workload>(workload)?;
        of_pods(workload)?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| lines::line(&error.to_string()))
}

/// In the template of the Pods the API server judges labels and annotations as it does an object's own.
fn of_pods(component: &Value) -> Result<(), String> {
    let fields::OfPods { labels, annotations } = read(component)?;
    for (key, value) in labels.iter().flatten() {
        metadata::label(key, value)?;
    }
    for key in annotations.iter().flat_map(BTreeMap::keys) {
        metadata::annotation(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
