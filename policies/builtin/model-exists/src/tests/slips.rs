//! Slashes, and names that merely begin alike.

use super::*;

#[test]
fn a_slash_behind_a_files_name_is_refused_where_kserve_looks_for_a_folder() {
    for uri in ["s3://mlflow/plain/model.joblib/", "gs://models/iris/model.joblib/"] {
        let (code, message, _) = refused(&world(), &bare(uri));
        assert_eq!(code, "model-missing");
        assert!(
            message.ends_with(&format!("Write {}", uri.trim_end_matches('/'))),
            "{message}"
        );
    }
}

#[test]
fn two_slashes_are_refused_where_it_is_seen_that_no_folder_is_called_so() {
    for (uri, meant) in [
        ("s3://mlflow/plain//", "s3://mlflow/plain/"),
        (
            "s3://mlflow/1//models/m-1/artifacts",
            "s3://mlflow/1/models/m-1/artifacts",
        ),
        ("gs://models//iris", "gs://models/iris"),
        (
            "https://acme.blob.core.windows.net/models/iris//x",
            "https://acme.blob.core.windows.net/models/iris/x",
        ),
    ] {
        let (code, message, _) = refused(&world(), &bare(uri));
        assert_eq!(code, "double-slash");
        assert!(message.ends_with(&format!("Write {meant}")), "{message}");
    }
    // A grant of a folder holds the folder alone where a slash ends it.
    let granted = World::new()
        .serve("s3://mlflow/plain/", "minio")
        .object("s3://mlflow/plain/model.joblib", "x");
    refused(&granted, &bare("s3://mlflow/plain//x"));
    // S3 has such names; and before an S3 key KServe leaves slashes out.
    let odd = world().object("s3://mlflow/plain//model.joblib", "x");
    assert_eq!(
        warned(&odd, &bare("s3://mlflow/plain//")),
        "predictor: KServe takes both slashes of `//`; write s3://mlflow/plain/"
    );
    assert_eq!(review(&world(), &bare("s3://mlflow//plain")), Verdict::admit());
}

#[test]
fn an_azure_container_without_the_slash_behind_it_is_refused_whoever_serves_it() {
    let nobody = World::new();
    for (uri, with_slash) in [
        (
            "https://acme.blob.core.windows.net/models",
            "https://acme.blob.core.windows.net/models/",
        ),
        (
            "https://acme.blob.core.windows.net/models?sv=1",
            "https://acme.blob.core.windows.net/models/",
        ),
        (
            "https://acme.file.core.windows.net/share",
            "https://acme.file.core.windows.net/share/",
        ),
    ] {
        for world in [&world(), &nobody] {
            let (code, message, path) = refused(world, &bare(uri));
            assert_eq!(
                (&*code, &*path),
                ("unsupported-uri", "/spec/predictor/model/storageUri")
            );
            let words = format!("Write {with_slash} for all that is in it, or name a folder");
            assert!(message.ends_with(&words), "{message}");
        }
        assert_eq!(review(&world(), &bare(with_slash)), Verdict::admit());
    }
}

#[test]
fn all_of_a_bucket_of_googles_is_refused_and_of_s3_it_is_loaded() {
    for uri in ["gs://models", "gs://models/", "gs://models//"] {
        let world = world().serve("gs://models", "gcs");
        let (code, message, path) = refused(&world, &bare(uri));
        assert_eq!(
            (&*code, &*path),
            ("unsupported-uri", "/spec/predictor/model/storageUri")
        );
        assert_eq!(
            message,
            "predictor: KServe can't load all of a bucket of Google Cloud Storage, and gs://models names nothing in it. Write which folder or file in it is \
             the model, such as gs://models/iris"
        );
    }
    assert_eq!(review(&world(), &bare("s3://mlflow/")), Verdict::admit());
    let (_, message, _) = refused(&World::new().serve("gs://empty", "gcs"), &bare("gs://empty"));
    assert!(
        message.ends_with("Upload the model into a folder of it, and write that"),
        "{message}"
    );
    // An object whose name begins with a slash is what KServe then looks for.
    let odd = world().object("gs://models//model.joblib", "x");
    assert_eq!(
        warned(&odd, &bare("gs://models/")),
        "predictor: KServe can't load all of a bucket; write what is the model in gs://models"
    );
    // Its user's own credentials make it no other bucket.
    let mut own = bare("gs://models/");
    own["spec"]["predictor"]["model"]["storage"] = json!({"key": "mine"});
    refused(&world(), &own);
}

#[test]
fn a_name_that_others_begin_with_is_only_a_warning_since_kserve_takes_those() {
    let world = world().object("s3://mlflow/fraud-v2/model.joblib", "x");
    assert_eq!(
        warned(&world, &bare("s3://mlflow/fraud")),
        "predictor: nothing is at s3://mlflow/fraud, but KServe takes fraud-v2 for it"
    );
    // With a slash it means the folder alone, and in GCS it always does.
    refused(&world, &bare("s3://mlflow/fraud/"));
    refused(
        &world.object("gs://models/fraud-v2/model.joblib", "x"),
        &bare("gs://models/fraud"),
    );
}

#[test]
fn where_the_folder_is_too_large_to_see_that_no_name_begins_so_it_is_a_warning() {
    let many = |before: &str| {
        (0..1_100).fold(world(), |world, n| {
            world.object(&format!("s3://mlflow/all/{before}{n:04}"), "x")
        })
    };
    assert_eq!(
        warned(&many("a"), &bare("s3://mlflow/all/fraud")),
        "predictor: nothing is at s3://mlflow/all/fraud"
    );
    refused(&many("z"), &bare("s3://mlflow/all/fraud"));
}

#[test]
fn outside_of_the_grant_nothing_is_looked_at_and_nothing_is_suggested() {
    let world = World::new()
        .serve("s3://mlflow/team-a", "minio")
        .object("s3://mlflow/team-b/secret-project/model.joblib", "x")
        .object("s3://mlflow/team-a/fraud/model.joblib", "x");
    let (_, message, _) = refused(&world, &bare("s3://mlflow/team-a/freud/"));
    assert!(message.contains("Did you mean s3://mlflow/team-a/fraud?"), "{message}");
    let (_, message, _) = refused(&world, &bare("s3://mlflow/team-a2/x/"));
    assert!(message.contains("Correct the URI, or upload"), "{message}");
}

#[test]
fn numbers_and_very_short_names_are_never_guessed() {
    let (_, message, _) = refused(&world(), &bare("s3://mlflow/2/"));
    assert!(message.contains("In s3://mlflow/ there is 1/, plain/."), "{message}");
}

#[test]
fn empty_files_are_no_model() {
    let world = world()
        .object("s3://mlflow/made/.keep", "")
        .object("s3://mlflow/made/sub", "")
        .object("s3://mlflow/mixed/.keep", "")
        .object("s3://mlflow/mixed/model.joblib", "x")
        .object("gs://models/made/.keep", "");
    let (code, message, _) = refused(&world, &bare("s3://mlflow/made"));
    assert_eq!(code, "model-empty");
    assert!(message.contains("Upload the model again"), "{message}");
    assert_eq!(review(&world, &bare("s3://mlflow/mixed")), Verdict::admit());
    assert_eq!(review(&world, &bare("gs://models/made")), Verdict::admit());
    let custom = json!({"spec": {"predictor": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "s3://mlflow/made"}]}]}}});
    assert_eq!(
        warned(&world, &custom),
        "predictor: all files are empty: s3://mlflow/made"
    );
}

#[test]
fn what_marks_a_folder_is_no_model() {
    let world = world()
        .object("gs://models/made/", "")
        .object("s3://mlflow/made/", "")
        .object("gs://models/nested/", "")
        .object("gs://models/nested/data/", "")
        .object("s3://mlflow/hadoop/x", "x")
        .object("s3://mlflow/hadoop/old_$folder$", "");
    for uri in [
        "gs://models/made",
        "gs://models/made/",
        "s3://mlflow/made",
        "s3://mlflow/made/",
        "gs://models/nested/",
    ] {
        let (code, message, _) = refused(&world, &bare(uri));
        assert_eq!(code, "model-empty", "{message}");
        let folder = uri.trim_end_matches('/');
        assert!(
            message.contains(&format!("no file is in the folder {folder} in ")),
            "{message}"
        );
    }
    // What Hadoop leaves beside a folder is no file that KServe takes, and nothing that was meant.
    let (code, message, _) = refused(&world, &bare("s3://mlflow/hadoop/old"));
    assert_eq!(code, "model-missing");
    assert!(message.contains("In s3://mlflow/hadoop/ there is x. "), "{message}");
    // An empty folder on the way was not meant either.
    let (_, message, _) = refused(&world, &bare("gs://models/made/v1/"));
    assert!(
        message.contains("In gs://models/ there is iris/, made/, nested/. "),
        "{message}"
    );
    // A file on the way may have been.
    let (_, message, _) = refused(&world, &bare("s3://mlflow/hadoop/x/y/"));
    assert!(message.contains("Did you mean s3://mlflow/hadoop/x?"), "{message}");
    // Where others begin so, KServe takes those.
    let other = world.object("s3://mlflow/made-2/model.joblib", "x");
    assert_eq!(
        warned(&other, &bare("s3://mlflow/made")),
        "predictor: nothing is at s3://mlflow/made, but KServe takes made-2 for it"
    );
    assert_eq!(refused(&other, &bare("s3://mlflow/made/")).0, "model-empty");
}

#[test]
fn a_model_is_fine_beside_what_marks_its_folders() {
    let world = ["gs://models", "s3://mlflow"].iter().fold(world(), |world, bucket| {
        world
            .object(&format!("{bucket}/marked/"), "")
            .object(&format!("{bucket}/marked/data/"), "")
            .object(&format!("{bucket}/marked/data/model.joblib"), "x")
            .object(&format!("{bucket}/marked/data_$folder$"), "")
    });
    for uri in [
        "gs://models/marked",
        "gs://models/marked/",
        "s3://mlflow/marked",
        "s3://mlflow/marked/",
    ] {
        assert_eq!(review(&world, &bare(uri)), Verdict::admit(), "{uri}");
    }
}

#[test]
fn a_web_address_without_a_file_is_refused() {
    for uri in [
        "https://files.example/",
        "https://files.example/models/",
        "https://files.example",
    ] {
        let (code, message, _) = refused(&world().serve("https://files.example", "web"), &bare(uri));
        assert_eq!(code, "no-file");
        assert!(message.contains("Write the file's own address"), "{message}");
    }
}
