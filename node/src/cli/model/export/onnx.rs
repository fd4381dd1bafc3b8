//! A model as ONNX (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>): an operator for each
//! operation of the network, and a tensor for each of its weights.
//!
//! The format is a protocol buffer. Of its messages seven are needed, with the fields named below.

use kith_models::{Layout, Operation, Schema, TensorSpec};

use crate::cli::protobuf::{bytes_field, number_field};

/// Version of the format: the one that came with operator set 13 (ONNX 1.8).
const FORMAT: u64 = 7;
/// The operators' versions.
const OPERATORS: u64 = 13;
/// Type of 32-bit floating-point numbers.
const FLOAT: u64 = 1;
/// Types of attributes.
const INTEGER: u64 = 2;
const INTEGERS: u64 = 7;

const INPUT: &str = "rows";
const OUTPUT: &str = "logits";

/// The file's bytes.
pub(super) fn model(
    operations: &[Operation],
    schema: &Schema,
    layout: &Layout,
    parameters: &[f32],
) -> Vec<u8> {
    // `OperatorSetIdProto`: domain (1; empty: ONNX's own) and version (2).
    let mut operators = Vec::new();
    bytes_field(&mut operators, 1, b"");
    number_field(&mut operators, 2, OPERATORS);
    // `ModelProto`: format (1), producer (2), graph (7), operator sets (8).
    let mut model = Vec::new();
    number_field(&mut model, 1, FORMAT);
    bytes_field(&mut model, 2, b"kith");
    bytes_field(
        &mut model,
        7,
        &graph(operations, schema, layout, parameters),
    );
    bytes_field(&mut model, 8, &operators);
    model
}

/// `GraphProto`: nodes (1), name (2), tensors (5), inputs (11), outputs (12).
fn graph(
    operations: &[Operation],
    schema: &Schema,
    layout: &Layout,
    parameters: &[f32],
) -> Vec<u8> {
    let mut graph = Vec::new();
    let mut value = INPUT.to_owned();
    for (index, operation) in operations.iter().enumerate() {
        let next = match index + 1 == operations.len() {
            true => OUTPUT.to_owned(),
            false => format!("value{index}"),
        };
        bytes_field(&mut graph, 1, &node(operation, &value, &next));
        value = next;
    }
    bytes_field(&mut graph, 2, b"model");
    for spec in &layout.tensors {
        bytes_field(&mut graph, 5, &tensor(spec, &parameters[spec.range()]));
    }
    bytes_field(&mut graph, 11, &description(INPUT, &schema.shape));
    bytes_field(&mut graph, 12, &description(OUTPUT, &[schema.classes]));
    graph
}

/// `NodeProto`: inputs (1), outputs (2), operator (4), attributes (5).
fn node(operation: &Operation, input: &str, output: &str) -> Vec<u8> {
    let (operator, layer, attributes) = match operation {
        Operation::Convolution { layer, kernel, .. } => {
            let pads = attribute("pads", INTEGERS, &[*kernel as u64 / 2; 4]);
            ("Conv", Some(layer), vec![pads])
        }
        Operation::MaxPool => {
            let sides = ["kernel_shape", "strides"].map(|name| attribute(name, INTEGERS, &[2; 2]));
            ("MaxPool", None, sides.to_vec())
        }
        Operation::Relu => ("Relu", None, Vec::new()),
        Operation::Flatten => ("Flatten", None, Vec::new()),
        Operation::Linear { layer, .. } => {
            // The weights are stored `[outputs, inputs]`.
            let turned = attribute("transB", INTEGER, &[1]);
            ("Gemm", Some(layer), vec![turned])
        }
    };
    let mut node = Vec::new();
    bytes_field(&mut node, 1, input.as_bytes());
    for name in layer
        .into_iter()
        .flat_map(|layer| ["weight", "bias"].map(|part| format!("{layer}.{part}")))
    {
        bytes_field(&mut node, 1, name.as_bytes());
    }
    bytes_field(&mut node, 2, output.as_bytes());
    bytes_field(&mut node, 4, operator.as_bytes());
    for attribute in attributes {
        bytes_field(&mut node, 5, &attribute);
    }
    node
}

/// `AttributeProto`: name (1), one integer (3) or several (8), type (20).
fn attribute(name: &str, kind: u64, values: &[u64]) -> Vec<u8> {
    let field = if kind == INTEGER { 3 } else { 8 };
    let mut attribute = Vec::new();
    bytes_field(&mut attribute, 1, name.as_bytes());
    for value in values {
        number_field(&mut attribute, field, *value);
    }
    number_field(&mut attribute, 20, kind);
    attribute
}

/// `TensorProto`: sides (1), type (2), name (8), values as little-endian bytes (9).
fn tensor(spec: &TensorSpec, values: &[f32]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for side in &spec.shape {
        number_field(&mut tensor, 1, *side as u64);
    }
    number_field(&mut tensor, 2, FLOAT);
    bytes_field(&mut tensor, 8, spec.name.as_bytes());
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    bytes_field(&mut tensor, 9, &bytes);
    tensor
}

/// `ValueInfoProto`: name (1) and type (2), for any number of rows of these sides.
fn description(name: &str, sides: &[usize]) -> Vec<u8> {
    // `TensorShapeProto`: sides (1), each a number (1) or a name (2).
    let mut rows = Vec::new();
    bytes_field(&mut rows, 2, b"rows");
    let mut shape = Vec::new();
    bytes_field(&mut shape, 1, &rows);
    for side in sides {
        let mut number = Vec::new();
        number_field(&mut number, 1, *side as u64);
        bytes_field(&mut shape, 1, &number);
    }
    // `TypeProto` with a tensor (1): type of its values (1) and shape (2).
    let mut values = Vec::new();
    number_field(&mut values, 1, FLOAT);
    bytes_field(&mut values, 2, &shape);
    let mut kind = Vec::new();
    bytes_field(&mut kind, 1, &values);
    let mut described = Vec::new();
    bytes_field(&mut described, 1, name.as_bytes());
    bytes_field(&mut described, 2, &kind);
    described
}
