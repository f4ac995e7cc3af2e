use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Document, Path, Place};

fn path(pointer: &str) -> Path {
    Path::parse(pointer).unwrap()
}

fn parsed(document: &Document) -> Value {
    serde_json::from_str(document.as_str()).unwrap()
}

#[test]
fn pointers_are_parsed_as_rfc_6901_says() {
    assert_eq!(
        path("/metadata/annotations/a.b~1c~0d").segments(),
        ["metadata", "annotations", "a.b/c~d"]
    );
    assert_eq!(path("/a~1b/~0").to_string(), "/a~1b/~0");
    assert_eq!(path("/").segments(), [""]);
    for bad in ["", "a", "/~", "/~2", "/a~"] {
        assert_eq!(Path::parse(bad), None, "{bad}");
    }
}

#[test]
fn only_objects_are_documents() {
    for bad in ["", "[]", "1", "null", "{", "{}}", "{\"a\":}"] {
        assert!(Document::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_touched_stays_byte_for_byte() {
    let mut document = Document::new("{ \"a\" : 1.0,\n\t\"b\" : { \"c\" : [ 1e2 ] } }").unwrap();
    document.set(&path("/b/d/e"), &json!("x")).unwrap();
    assert_eq!(
        document.as_str(),
        "{ \"a\" : 1.0,\n\t\"b\" : {\"d\":{\"e\":\"x\"}, \"c\" : [ 1e2 ] } }"
    );
    assert!(document.remove(&path("/b/d")));
    assert!(document.remove(&path("/a")));
    assert_eq!(document.as_str(), "{ \n\t\"b\" : { \"c\" : [ 1e2 ] } }");
}

#[test]
fn a_null_is_nothing_and_can_be_filled() {
    let mut document = Document::new(r#"{"metadata":{"annotations":null}}"#).unwrap();
    assert_eq!(document.get(&path("/metadata/annotations")), None);
    document.set(&path("/metadata/annotations/a"), &json!("x")).unwrap();
    assert_eq!(document.as_str(), r#"{"metadata":{"annotations":{"a":"x"}}}"#);
}

#[test]
fn lists_are_walked_but_never_changed() {
    let mut document = Document::new(r#"{"l":[{"a":1},null]}"#).unwrap();
    assert_eq!(document.get(&path("/l/0/a")), Some("1"));
    assert!(document.set(&path("/l/0/b"), &json!(2)).is_ok());
    for blocked in ["/l/0", "/l/1", "/l/1/a", "/l/2", "/l/-", "/l/00", "/l/+0", "/l/0/a/b"] {
        assert!(document.set(&path(blocked), &json!(3)).is_err(), "{blocked}");
        assert!(!document.remove(&path(blocked)), "{blocked}");
    }
    assert_eq!(parsed(&document), json!({"l": [{"a": 1, "b": 2}, null]}));
}

#[test]
fn escaped_keys_and_doubled_keys_are_found() {
    let document = Document::new(r#"{"\u0061":1,"b":2,"b":3}"#).unwrap();
    assert_eq!(document.get(&path("/a")), Some("1"));
    assert_eq!(document.get(&path("/b")), Some("3"));
    assert!(matches!(document.place(&path("/c")), Place::Missing { depth: 0, .. }));
}

#[test]
fn emptied_parents_go_as_far_as_they_may() {
    let mut document = Document::new(r#"{"a":{"b":{"c":{"d":1}}},"e":2}"#).unwrap();
    document.remove_pruning(&path("/a/b/c/d"), |parent| parent.segments().len() > 1);
    assert_eq!(document.as_str(), r#"{"a":{},"e":2}"#);
}

/// Objects as JSON knows them, with keys that need escapes in pointers and in strings.
fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        key().prop_map(Value::from)
    ];
    let tree = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(key(), tree, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("b"),
        Just("0"),
        Just("x/y"),
        Just("~"),
        Just("\"q\\"),
        Just("ü\n"),
        Just("")
    ]
    .prop_map(str::to_owned)
}

/// What `set` means, on a tree.
fn set(value: &mut Value, segments: &[String], new: &Value) -> bool {
    let Some((first, rest)) = segments.split_first() else {
        *value = new.clone();
        return true;
    };
    match value {
        Value::Object(map) => {
            let made = map.get(first).is_none_or(Value::is_null);
            if made {
                map.insert(first.clone(), if rest.is_empty() { Value::Null } else { json!({}) });
            }
            set(&mut map[first], rest, new)
        }
        Value::Array(list) => match first.parse::<usize>().ok().and_then(|index| list.get_mut(index)) {
            Some(element) if !rest.is_empty() && !element.is_null() => set(element, rest, new),
            _ => false,
        },
        _ => false,
    }
}

proptest! {
    #[test]
    fn edits_of_the_text_are_edits_of_the_tree(
        object in object(),
        pretty in any::<bool>(),
        edits in prop::collection::vec((prop::collection::vec(key(), 1..4), prop::option::of(object())), 0..6),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
        let mut document = Document::new(&text).unwrap();
        let mut tree = object;
        for (segments, edit) in edits {
            let path = Path::new(segments).unwrap();
            let pointer = path.to_string();
            prop_assert_eq!(Path::parse(&pointer), Some(path.clone()));
            prop_assert_eq!(document.value(&path), tree.pointer(&pointer).filter(|value| !value.is_null()).cloned());
            if let Some(new) = edit {
                let mut after = tree.clone();
                let done = set(&mut after, path.segments(), &new);
                prop_assert_eq!(document.set(&path, &new).is_ok(), done);
                if done {
                    tree = after;
                }
            } else {
                let (last, parent) = path.segments().split_last().unwrap();
                let parent = parent.iter().try_fold(&mut tree, |at, segment| match at {
                    Value::Object(map) => map.get_mut(segment),
                    Value::Array(list) => segment.parse::<usize>().ok().and_then(|index| list.get_mut(index)),
                    _ => None,
                });
                let removed = match parent {
                    Some(Value::Object(map)) if map.get(last).is_some_and(|value| !value.is_null()) => map.remove(last).is_some(),
                    _ => false,
                };
                prop_assert_eq!(document.remove(&path), removed);
            }
            prop_assert_eq!(&parsed(&document), &tree);
            // Where its members are is what a first look at its text finds.
            prop_assert_eq!(&document, &Document::new(document.as_str()).unwrap());
        }
    }
}
