//! Model files: safetensors in memory, written by ourselves so that equal parameters give equal
//! bytes (the crate's writer takes its metadata from a hash map), read through
//! `SafeTensors::deserialize`, which checks every bound and maps no file.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value};

use crate::model::{Layout, TensorSpec};
use crate::task::ModelError;

/// Tensors whose name starts with this belong to Kith (optimizer state, masses) and are no
/// parameters.
const OWN_PREFIX: &str = "kith.";
/// Key of the metadata in a safetensors header.
const METADATA: &str = "__metadata__";

/// The bytes of a model file: the parameters as f32 tensors, and `metadata` (texts about the
/// parameters; never data).
///
/// # Panics
/// When there are not as many parameters as the layout has.
pub fn write_model(
    layout: &Layout,
    parameters: &[f32],
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    assert_eq!(
        parameters.len(),
        layout.dimension,
        "parameters of this layout"
    );
    let mut bytes = model_header(layout, metadata);
    bytes.reserve_exact(parameters.len() * 4);
    bytes.extend(parameters.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// The bytes of a model file before its values, which follow as little-endian f32 in the layout's
/// order: for writers that do not keep the whole file in memory.
pub fn model_header(layout: &Layout, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = BTreeMap::new();
    if !metadata.is_empty() {
        let texts: Map<String, Value> = metadata
            .iter()
            .map(|(key, text)| (key.clone(), Value::from(text.clone())))
            .collect();
        header.insert(METADATA.to_owned(), Value::Object(texts));
    }
    for tensor in &layout.tensors {
        let range = tensor.range();
        let mut entry = Map::new();
        entry.insert(
            "data_offsets".to_owned(),
            Value::from(vec![range.start * 4, range.end * 4]),
        );
        entry.insert("dtype".to_owned(), Value::from("F32"));
        entry.insert("shape".to_owned(), Value::from(tensor.shape.clone()));
        header.insert(tensor.name.clone(), Value::Object(entry));
    }
    let mut header = serde_json::to_string(&header)
        .expect("texts and integers are JSON")
        .into_bytes();
    // The format asks for values aligned to 8 bytes; spaces are its padding.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes
}

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// (name, type as the format calls it, shape) of every tensor, sorted by name.
    pub tensors: Vec<(String, String, Vec<usize>)>,
    /// Texts about the tensors.
    pub metadata: BTreeMap<String, String>,
}

/// What a model file of any type says about itself.
///
/// # Errors
/// When it is not safetensors.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, ModelError> {
    let (tensors, metadata) = parse(bytes)?;
    let describe = |(name, view): &(String, TensorView<'_>)| {
        (
            name.clone(),
            format!("{:?}", view.dtype()),
            view.shape().to_vec(),
        )
    };
    Ok(Inspection {
        tensors: tensors.iter().map(describe).collect(),
        metadata,
    })
}

/// The layout, the parameters and the metadata of a model file.
pub type Tensors = (Layout, Vec<f32>, BTreeMap<String, String>);

/// The parameters of any f32 model, with their layout and the metadata. Tensors named `kith.…` are
/// skipped; values may be anything, NaN included.
///
/// # Errors
/// When it is not safetensors, or a tensor is not f32.
pub fn read_tensors(bytes: &[u8]) -> Result<Tensors, ModelError> {
    let (mut tensors, metadata) = parse(bytes)?;
    tensors.retain(|(name, _)| !name.starts_with(OWN_PREFIX));
    if let Some((name, view)) = tensors.iter().find(|(_, view)| view.dtype() != Dtype::F32) {
        return Err(ModelError::File(format!(
            "tensor {name:?} is of type {:?}, expected F32",
            view.dtype()
        )));
    }
    let layout = Layout::new(
        tensors
            .iter()
            .map(|(name, view)| (name.clone(), view.shape().to_vec())),
    );
    let values = tensors
        .iter()
        .flat_map(|(_, view)| view.data().chunks_exact(4));
    let parameters = values
        .map(|value| f32::from_le_bytes(value.try_into().expect("chunks of 4 bytes")))
        .collect();
    Ok((layout, parameters, metadata))
}

/// The parameters of a model of this layout.
///
/// # Errors
/// When it is not safetensors, a tensor is missing, unknown, or of another type or shape, or a
/// value is not finite.
pub fn read_model(bytes: &[u8], layout: &Layout) -> Result<Vec<f32>, ModelError> {
    let (found, parameters, _) = read_tensors(bytes)?;
    let find = |tensors: &[TensorSpec], name: &str| {
        tensors.iter().find(|tensor| tensor.name == name).cloned()
    };
    for tensor in &layout.tensors {
        match find(&found.tensors, &tensor.name) {
            None => {
                return Err(ModelError::File(format!(
                    "tensor {:?} is missing",
                    tensor.name
                )));
            }
            Some(other) if other.shape != tensor.shape => {
                let (name, expected, found) = (&tensor.name, &tensor.shape, other.shape);
                return Err(ModelError::File(format!(
                    "tensor {name:?} has shape {found:?}, expected {expected:?}"
                )));
            }
            Some(_) => {}
        }
    }
    if let Some(tensor) = found
        .tensors
        .iter()
        .find(|tensor| find(&layout.tensors, &tensor.name).is_none())
    {
        return Err(ModelError::File(format!(
            "tensor {:?} is not part of this model",
            tensor.name
        )));
    }
    if let Some(index) = parameters.iter().position(|value| !value.is_finite()) {
        return Err(ModelError::File(format!(
            "parameter {index} is {}, expected a finite number",
            parameters[index]
        )));
    }
    Ok(parameters)
}

type Parsed<'a> = (Vec<(String, TensorView<'a>)>, BTreeMap<String, String>);

fn parse(bytes: &[u8]) -> Result<Parsed<'_>, ModelError> {
    let wrong = |error| ModelError::File(format!("this is not a safetensors file: {error}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
    let mut tensors = SafeTensors::deserialize(bytes).map_err(wrong)?.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((
        tensors,
        header
            .metadata()
            .iter()
            .flatten()
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect(),
    ))
}
