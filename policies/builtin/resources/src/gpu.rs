//! A GPU that nobody uses.
//!
//! Source: `config/runtimes` of KServe 0.20, whose images of these servers hold no CUDA libraries or never ask for a GPU.

use tidewaiter_policy::core::containers::{Container, is_gpu};
use tidewaiter_policy::core::image::gpu_tag;
use tidewaiter_policy::{Verdict, image_of, is_digest};

use crate::Subject;
use crate::containers::TRANSFORMER;

/// Servers that compute on the CPU alone.
const CPU_ALONE: [&str; 6] = [
    "docker.io/kserve/sklearnserver",
    "docker.io/kserve/xgbserver",
    "docker.io/kserve/lgbserver",
    "docker.io/kserve/pmmlserver",
    "docker.io/kserve/paddleserver",
    "docker.io/kserve/predictiveserver",
];

pub(crate) fn review(subject: &Subject<'_>, verdict: &mut Verdict) {
    let Some((model, runtime)) = subject.part.model.as_ref().zip(subject.runtime) else {
        return;
    };
    let at = format!("{}/model", subject.component.pointer);
    if !asks(model) {
        elsewhere(subject, &at, verdict);
        return;
    }
    let (repository, tag) = image_of(subject.component, runtime);
    let name = &runtime.name;
    if CPU_ALONE.contains(&repository.as_str()) {
        subject.found(
            verdict,
            subject.settings.gpu,
            "gpu-unused",
            &format!(
                "it asks for a GPU, and runtime {name} ({repository}) computes on the CPU alone: the GPU would be taken from others for nothing. Take it out of \
                 {at}/resources, or name a runtime that uses one"
            ),
            &format!("it asks for a GPU, which runtime {name} doesn't use"),
            &format!("{at}/resources"),
        );
    } else if let Some(wanted) = gpu_tag(&repository, &tag).filter(|_| !is_digest(&tag)) {
        subject.found(
            verdict,
            subject.settings.gpu,
            "gpu-unused",
            &format!(
                "it asks for a GPU, and {repository}:{tag} is the image for the CPU, which KServe leaves as it is where the version is given. Write {wanted}, or \
                 leave the version out"
            ),
            &format!("it asks for a GPU, and the image's tag {tag} is the one without; write {wanted}"),
            &format!("{at}/runtimeVersion"),
        );
    }
}

/// A container beside the model's that asks for a GPU, where the model's asks for none.
fn elsewhere(subject: &Subject<'_>, at: &str, verdict: &mut Verdict) {
    let mut containers = subject.part.containers().iter().enumerate();
    // A transformer may well compute on one.
    let Some((index, container)) = containers.find(|(_, container)| container.name != TRANSFORMER && asks(container))
    else {
        return;
    };
    let name = &container.name;
    subject.found(
        verdict,
        subject.settings.gpu,
        "gpu-elsewhere",
        &format!(
            "the container {name} asks for a GPU, and the model runs in another one, which gets none. Write the GPU in {at}/resources, or take it out"
        ),
        &format!("container {name} asks for a GPU, but the model's doesn't; write it in model.resources"),
        &format!("{}/containers/{index}/resources", subject.component.pointer),
    );
}

fn asks(container: &Container) -> bool {
    let mut amounts = container.resources.amounts();
    amounts.any(|(name, amount)| is_gpu(name) && amount.is_positive())
}
