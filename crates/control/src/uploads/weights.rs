//! What an uploaded adapter has to be: safetensors, which hold numbers and nothing that runs, and a
//! configuration of a LoRA.

use serde::Deserialize;
use serde_json::{Map, Value};

/// 16 MiB: a header of a hundred thousand tensors.
pub(super) const HEADER_BYTES_MAX: u64 = 16 << 20;
/// 1 MiB: a configuration has a kilobyte.
pub(super) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// As the catalogue has it.
const RANK_MAX: u32 = 4_096;

/// Why files are no adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnAdapter {
    /// The weights are something else.
    #[error("`adapter_model.safetensors` is no safetensors file: {0}")]
    Weights(&'static str),
    /// The configuration is something else.
    #[error("`adapter_config.json` {0}")]
    Config(&'static str),
}

#[derive(Debug, Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The length of the header that a safetensors file of this length begins with.
pub(super) fn header_bytes(first: &[u8], file_bytes: u64) -> Result<u64, NotAnAdapter> {
    let length = first.get(..8).and_then(|bytes| bytes.try_into().ok());
    let length = length.map(u64::from_le_bytes);
    match length {
        Some(length) if (2..=HEADER_BYTES_MAX).contains(&length) && length + 8 <= file_bytes => {
            Ok(length)
        }
        _ => Err(NotAnAdapter::Weights("its header has no length")),
    }
}

/// Checks the header: every tensor is where it says, as long as it says, and nothing else is there.
pub(super) fn check_weights(header: &[u8], file_bytes: u64) -> Result<(), NotAnAdapter> {
    let wrong = NotAnAdapter::Weights;
    let tensors: Map<String, Value> =
        serde_json::from_slice(header).map_err(|_| wrong("its header is no JSON object"))?;
    let data_bytes = file_bytes - 8 - header.len() as u64;
    let mut places = Vec::new();
    for (name, value) in tensors {
        if name == "__metadata__" {
            continue;
        }
        let tensor: Tensor =
            serde_json::from_value(value).map_err(|_| wrong("a tensor is not described"))?;
        let (from, to) = tensor.data_offsets;
        let bits = bits_of(&tensor.dtype).ok_or(wrong("a tensor's `dtype` is not known"))?;
        let elements = tensor
            .shape
            .iter()
            .try_fold(1_u64, |all, each| all.checked_mul(*each));
        let bytes = elements
            .and_then(|elements| elements.checked_mul(bits))
            .map(|it| it / 8);
        if from > to || to > data_bytes || bytes != Some(to - from) {
            return Err(wrong("a tensor is not as long as it says"));
        }
        places.push((from, to));
    }
    places.sort_unstable();
    let end = places
        .iter()
        .try_fold(0, |end, (from, to)| (*from == end).then_some(*to));
    match end {
        _ if places.is_empty() => Err(wrong("it has no tensor")),
        Some(end) if end == data_bytes => Ok(()),
        _ => Err(wrong("it has bytes that belong to no tensor, or to two")),
    }
}

fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" => 64,
        _ => return None,
    })
}

/// The rank that a configuration says.
pub(super) fn rank_of(config: &[u8]) -> Result<u32, NotAnAdapter> {
    let wrong = NotAnAdapter::Config;
    let config: Value = serde_json::from_slice(config).map_err(|_| wrong("is not JSON"))?;
    if config["peft_type"].as_str() != Some("LORA") {
        return Err(wrong("has no `\"peft_type\": \"LORA\"`"));
    }
    // Names of code that an engine would import.
    if !config["auto_mapping"].is_null() {
        return Err(wrong("has an `auto_mapping`: leave it out"));
    }
    let rank = config["r"]
        .as_u64()
        .and_then(|rank| u32::try_from(rank).ok());
    rank.filter(|rank| (1..=RANK_MAX).contains(rank))
        .ok_or(wrong("has no rank `r` of 1 to 4096"))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A file with one tensor of four 16-bit numbers.
    pub(crate) fn weights() -> Vec<u8> {
        let header =
            json!({"a.lora_A.weight": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}});
        file(&header, 8)
    }

    fn file(header: &Value, data: usize) -> Vec<u8> {
        let header = header.to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(vec![1; data]);
        file
    }

    fn check(file: &[u8]) -> Result<(), NotAnAdapter> {
        let length = file.len() as u64;
        let header = header_bytes(file, length)?;
        check_weights(&file[8..8 + header as usize], length)
    }

    #[test]
    fn weights_are_numbers_without_gaps() {
        assert_eq!(check(&weights()), Ok(()));
        let tensor = |dtype: &str, shape: Value, from: u64, to: u64| json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": [from, to]}});
        for (header, data) in [
            (json!({}), 0),
            (tensor("F16", json!([2, 2]), 0, 8), 9),
            (tensor("F16", json!([2, 2]), 1, 9), 9),
            (tensor("F16", json!([2, 3]), 0, 8), 8),
            (tensor("F16", json!([2, 2]), 8, 0), 8),
            (tensor("OBJECT", json!([1]), 0, 8), 8),
            (tensor("F16", json!([u64::MAX, 2]), 0, 8), 8),
            (json!({"a": "os.system"}), 8),
            (json!([1]), 8),
        ] {
            assert!(check(&file(&header, data)).is_err(), "{header}");
        }
    }

    #[test]
    fn a_pickle_is_no_weights() {
        // As `torch.save` begins: a zip archive; and as pickle itself does.
        for pickle in [
            &b"PK\x03\x04\x00\x00\x08\x08\x00\x00"[..],
            b"\x80\x02}q\x00.",
            b"",
        ] {
            assert!(check(pickle).is_err());
        }
    }

    #[test]
    fn a_configuration_is_one_of_a_lora() {
        assert_eq!(rank_of(br#"{"peft_type":"LORA","r":16}"#), Ok(16));
        for wrong in [
            &br#"{"peft_type":"IA3","r":16}"#[..],
            br#"{"peft_type":"LORA"}"#,
            br#"{"peft_type":"LORA","r":0}"#,
            br#"{"peft_type":"LORA","r":8,"auto_mapping":{"parent_library":"os"}}"#,
            b"r: 16",
        ] {
            assert!(rank_of(wrong).is_err());
        }
    }
}
