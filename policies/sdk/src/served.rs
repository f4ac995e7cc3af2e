//! Which runtime, and which image, will serve a predictor: what KServe makes of what the object says.

use tidewaiter_core::image::{Image, gpu_tag};
use tidewaiter_core::service::{Component, Implementation};

use crate::runtimes::{self, Runtime};

/// The runtime that serves a predictor with a model format: the one that it names, else the one that KServe picks for its format and protocol (`v1` where none is
/// set). None where it isn't there (yet), where KServe picks none, and for what is served without one: custom containers, several nodes.
pub fn runtime_of(component: &Component<'_>) -> Option<Runtime> {
    let model = component.implementation.as_ref()?;
    if let Some(name) = model.runtime.as_deref() {
        return runtimes::named(name).filter(|runtime| !runtime.disabled);
    }
    let format = model.format.as_ref().filter(|_| !component.multi_node)?;
    let protocol = model.protocol_version.as_deref().unwrap_or("v1");
    runtimes::supporting(&format.name, format.version.as_deref())
        .into_iter()
        .find(|runtime| runtime.may_be_chosen(protocol))
}

/// Repository and tag of the image that will run, with what the user says and what KServe appends where no `runtimeVersion` is set (`UpdateImageTag`, 0.15 to
/// 0.20). An image by digest has that in the tag's place: see [`is_digest`].
pub fn image_of(component: &Component<'_>, runtime: &Runtime) -> (String, String) {
    image_by(component.implementation.as_ref(), component.gpu, runtime)
}

/// The same of what a component says of its server, and whether it asks for a GPU.
pub fn image_by(model: Option<&Implementation<'_>>, gpu: bool, runtime: &Runtime) -> (String, String) {
    let own = model.and_then(|model| model.image.as_deref()).map(Image::parse);
    let (repository, tag) = match own {
        Some(image) => (image.repository, image.tag.or(image.digest).unwrap_or_default()),
        None if runtime.tag.is_empty() => (runtime.repository.clone(), runtime.digest.clone()),
        None => (runtime.repository.clone(), runtime.tag.clone()),
    };
    if is_digest(&tag) {
        return (repository, tag);
    }
    if let Some(version) = model.and_then(|model| model.runtime_version.as_deref()) {
        return (repository, version.to_owned());
    }
    let for_gpu = gpu.then(|| gpu_tag(&repository, &tag)).flatten();
    (repository, for_gpu.unwrap_or(tag))
}

/// Whether what stands in a tag's place is none: no tag holds a colon.
pub fn is_digest(tag: &str) -> bool {
    tag.is_empty() || tag.contains(':')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidewaiter_core::service::Service;

    use super::*;
    use crate::testing::{World, runtime};

    fn image(world: &World, predictor: &Value) -> Option<(String, String)> {
        let object = json!({"spec": {"predictor": predictor}}).to_string();
        let service = Service::parse("InferenceService", &object).unwrap();
        let component = service.predictor().unwrap();
        world.run(|| runtime_of(component).map(|runtime| image_of(component, &runtime)))
    }

    #[test]
    fn the_image_is_the_one_that_kserve_runs() {
        let mut off = runtime("off", "docker.io/kserve/off", "1", &[]);
        off.disabled = true;
        let world = World::new()
            .runtime("sklearn", None, off)
            .runtime(
                "sklearn",
                None,
                runtime("mlserver", "docker.io/seldonio/mlserver", "1.7.1", &["v2"]),
            )
            .runtime(
                "sklearn",
                None,
                runtime(
                    "sklearnserver",
                    "docker.io/kserve/sklearnserver",
                    "v0.20.0",
                    &["v1", "v2"],
                ),
            )
            .runtime(
                "tensorflow",
                None,
                runtime("tf", "docker.io/tensorflow/serving", "2.6.2", &[]),
            );
        let sklearn = |more: Value| {
            let mut model = json!({"modelFormat": {"name": "sklearn"}});
            model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"model": model})
        };
        for (predictor, expected) in [
            (sklearn(json!({})), "docker.io/kserve/sklearnserver v0.20.0"),
            (
                sklearn(json!({"protocolVersion": "v2"})),
                "docker.io/seldonio/mlserver 1.7.1",
            ),
            (
                sklearn(json!({"runtime": "mlserver", "runtimeVersion": "1.3.5"})),
                "docker.io/seldonio/mlserver 1.3.5",
            ),
            (
                sklearn(json!({"image": "mine/server@sha256:ab"})),
                "docker.io/mine/server sha256:ab",
            ),
            (sklearn(json!({"runtime": "off"})), "none"),
            (sklearn(json!({"runtime": "gone"})), "none"),
            (
                json!({"tensorflow": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}),
                "docker.io/tensorflow/serving 2.6.2-gpu",
            ),
            (json!({"containers": [{"name": "x"}]}), "none"),
            (json!({"model": {"modelFormat": {"name": "onnx"}}}), "none"),
        ] {
            let found =
                image(&world, &predictor).map_or("none".to_owned(), |(repository, tag)| format!("{repository} {tag}"));
            assert_eq!(found, expected, "{predictor}");
        }
    }
}
