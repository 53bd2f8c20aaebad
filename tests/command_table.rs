//! The command table against Redis 7.2.6's own (tests/reference/commands.json, dumped from a running server).

use redstart::command::spec::{Begin, Command, FLAG_NAMES, Find, KEY_FLAG_NAMES, KeySpec, acl};
use redstart::commands::command::key_range;
use redstart::commands::registry;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

fn reference() -> BTreeMap<String, Json> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/commands.json");
    let text = std::fs::read_to_string(file).expect("the reference is in the repository");
    let list: Vec<Json> = serde_json::from_str(&text).expect("it is JSON");
    let mut all = BTreeMap::new();
    for command in list {
        for subcommand in command["subcommands"].as_array().into_iter().flatten() {
            all.insert(subcommand["name"].as_str().expect("a name").to_owned(), subcommand.clone());
        }
        all.insert(command["name"].as_str().expect("a name").to_owned(), command);
    }
    all
}

fn set(names: impl Iterator<Item = String>) -> Json {
    json!(names.collect::<BTreeSet<_>>())
}

fn key_spec(spec: &KeySpec) -> Json {
    let flags = KEY_FLAG_NAMES.iter().filter(|(bit, _)| spec.flags & bit != 0).map(|(_, name)| (*name).to_owned());
    let begin = match spec.begin {
        Begin::Index(index) => json!({"type": "index", "spec": {"index": index}}),
        Begin::Keyword(word, from) => json!({"type": "keyword", "spec": {"keyword": word, "startfrom": from}}),
        Begin::Unknown => json!({"type": "unknown", "spec": {}}),
    };
    let find = match spec.find {
        Find::Range { last, step, limit } => {
            json!({"type": "range", "spec": {"lastkey": last, "keystep": step, "limit": limit}})
        }
        Find::KeyNum { count, first, step } => {
            json!({"type": "keynum", "spec": {"keynumidx": count, "firstkey": first, "keystep": step}})
        }
        Find::Unknown => json!({"type": "unknown", "spec": {}}),
    };
    let mut all = json!({"flags": set(flags), "begin_search": begin, "find_keys": find});
    if !spec.notes.is_empty() {
        all["notes"] = json!(spec.notes);
    }
    all
}

fn ours(command: &Command) -> Json {
    let categories = command.categories();
    json!({
        "arity": command.arity,
        "flags": set(FLAG_NAMES.iter().filter(|(bit, _)| command.has(*bit)).map(|(_, name)| (*name).to_owned())),
        "acl_categories": set(acl::NAMES.iter().filter(|(bit, _)| categories & bit != 0).map(|(_, n)| format!("@{n}"))),
        "tips": command.tips,
        "key_specs": command.keys.iter().map(key_spec).collect::<Vec<_>>(),
    })
}

fn theirs(command: &Json) -> Json {
    let strings =
        |name: &str| set(command[name].as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or("").to_owned()));
    let mut specs = command["key_specs"].clone();
    for spec in specs.as_array_mut().into_iter().flatten() {
        spec["flags"] =
            set(spec["flags"].as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or("").to_owned()));
    }
    json!({
        "arity": command["arity"],
        "flags": strings("flags"),
        "acl_categories": strings("acl_categories"),
        "tips": command["tips"],
        "key_specs": specs,
    })
}

#[test]
fn every_entry_has_redis_s_facts() {
    let reference = reference();
    let registry = registry();
    for command in registry.all() {
        let Some(facts) = reference.get(command.name) else { panic!("Redis 7.2 has no {}", command.name) };
        assert_eq!(ours(command), theirs(facts), "{}", command.name);
    }
}

#[test]
fn every_entry_of_redis_is_there() {
    let registry = registry();
    let ours: BTreeSet<&str> = registry.all().iter().map(|command| command.name).collect();
    let reference = reference();
    assert_eq!(reference.len(), 370);
    let missing: Vec<_> = reference.keys().filter(|name| !ours.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What clients read that do not know key specs.
#[test]
fn every_key_range_is_redis_s() {
    let registry = registry();
    for (name, facts) in reference() {
        let command = registry.all().iter().find(|command| command.name == name).expect("the table is whole");
        let theirs = ["first_key", "last_key", "step"].map(|field| facts[field].as_i64().expect("a number"));
        let (first, last, step) = key_range(command);
        assert_eq!([first, last, step].map(i64::from), theirs, "{name}");
    }
}

#[test]
fn every_name_is_there_once() {
    let registry = registry();
    let mut names = BTreeSet::new();
    for command in registry.all() {
        assert!(names.insert(command.name), "{} twice", command.name);
        assert_eq!(command.name, command.name.to_ascii_lowercase());
    }
}
