//! The one byte string that a charter has, and the ids that follow from it.

use std::collections::BTreeMap;

use crate::identity::Digest;

/// The hash of each section, by name.
pub(super) fn digests(canonical: &toml::Table) -> BTreeMap<String, Digest> {
    canonical
        .iter()
        .map(|(name, table)| (name.clone(), digest_of(table)))
        .collect()
}

/// The id of a charter with these sections.
pub(super) fn federation_id(sections: &BTreeMap<String, Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("kith.v1 federation id");
    for (name, digest) in sections {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

fn digest_of(value: &toml::Value) -> Digest {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    Digest(blake3::derive_key("kith.v1 charter section", &bytes))
}

/// Types tagged, lengths before contents, keys sorted, floats as bits: no two tables have the same
/// bytes.
fn encode(value: &toml::Value, bytes: &mut Vec<u8>) {
    let text = |tag: u8, text: &str, bytes: &mut Vec<u8>| {
        bytes.push(tag);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    match value {
        toml::Value::String(string) => text(b's', string, bytes),
        toml::Value::Integer(integer) => {
            bytes.push(b'i');
            bytes.extend(integer.to_le_bytes());
        }
        toml::Value::Float(float) => {
            bytes.push(b'f');
            bytes.extend(float.to_bits().to_le_bytes());
        }
        toml::Value::Boolean(flag) => bytes.extend([b'b', u8::from(*flag)]),
        toml::Value::Datetime(date) => text(b'd', &date.to_string(), bytes),
        toml::Value::Array(items) => {
            bytes.push(b'a');
            bytes.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| encode(item, bytes));
        }
        toml::Value::Table(table) => {
            bytes.push(b't');
            bytes.extend((table.len() as u64).to_le_bytes());
            let sorted: BTreeMap<&String, &toml::Value> = table.iter().collect();
            for (key, value) in sorted {
                text(b'k', key, bytes);
                encode(value, bytes);
            }
        }
    }
}
