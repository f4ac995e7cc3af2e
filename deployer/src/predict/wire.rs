//! Tensors as gRPC carries them: lists by type, or raw bytes.
//!
//! Raw is little-endian, row-major, without gaps; a text has its length before it, in four bytes; a bool is a byte. Only raw has room for 16-bit fractions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value, json};

use super::datatype::Datatype;
use super::protocol::InferTensorContents;
use super::protocol::infer_parameter::ParameterChoice;
use super::protocol::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::protocol::{InferParameter, ModelInferRequest, ModelInferResponse};
use super::request::Request;
use super::tensor::{Tensor, elements};
use super::{Error, InputError};

/// A request for a model of this name.
///
/// # Errors
/// Where an element has no place in its type, or what is asked for has no name.
pub(super) fn request(model: &str, request: &Request) -> Result<ModelInferRequest, InputError> {
    // All of a request's inputs are raw, or none.
    let is_raw = request
        .inputs
        .iter()
        .any(|tensor| matches!(tensor.datatype, Datatype::Fp16 | Datatype::Bf16));
    let mut inputs = Vec::new();
    let mut raw_input_contents = Vec::new();
    for tensor in &request.inputs {
        let contents = if is_raw {
            raw_input_contents.push(raw(tensor)?);
            None
        } else {
            Some(contents(tensor)?)
        };
        inputs.push(InferInputTensor {
            name: tensor.name.clone(),
            datatype: tensor.datatype.as_str().to_owned(),
            shape: tensor.shape.iter().map(|&length| signed(length)).collect(),
            parameters: parameters(&tensor.parameters),
            contents,
        });
    }
    let text = |name: &str| {
        request
            .others
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let members = request.others.get("parameters").and_then(Value::as_object);
    Ok(ModelInferRequest {
        model_name: model.to_owned(),
        model_version: text("model_version"),
        id: text("id"),
        parameters: members.map(parameters).unwrap_or_default(),
        inputs,
        outputs: outputs(request.others.get("outputs"))?,
        raw_input_contents,
    })
}

/// What the user asks for of all that the model answers; where they say nothing, all of it.
fn outputs(asked: Option<&Value>) -> Result<Vec<InferRequestedOutputTensor>, InputError> {
    let wrong = |what: &str| InputError::Tensor {
        name: "outputs".to_owned(),
        what: what.to_owned(),
    };
    let asked = match asked {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(asked) => asked.as_array().ok_or_else(|| wrong("they are no list"))?,
    };
    let output = |output: &Value| {
        Ok(InferRequestedOutputTensor {
            name: output["name"]
                .as_str()
                .ok_or_else(|| wrong("one has no name"))?
                .to_owned(),
            parameters: output["parameters"].as_object().map(parameters).unwrap_or_default(),
        })
    };
    asked.iter().map(output).collect()
}

/// An answer in the form that REST gives it.
///
/// # Errors
/// Where it isn't whole.
pub(super) fn answer(response: ModelInferResponse) -> Result<Value, Error> {
    let wrong = |name: &str, what: &str| Error::Answer(format!("output {name}: {what}"));
    let mut outputs = Vec::new();
    let is_raw = !response.raw_output_contents.is_empty();
    for (index, output) in response.outputs.into_iter().enumerate() {
        let name = output.name;
        let datatype: Datatype = output
            .datatype
            .parse()
            .map_err(|error: super::datatype::UnknownDatatype| wrong(&name, &error.to_string()))?;
        let shape: Option<Vec<usize>> = output
            .shape
            .iter()
            .map(|&length| usize::try_from(length).ok())
            .collect();
        let shape = shape.ok_or_else(|| wrong(&name, "a length below zero"))?;
        let data = if is_raw {
            let bytes = response.raw_output_contents.get(index);
            let bytes = bytes.ok_or_else(|| wrong(&name, "it has no bytes"))?;
            of_raw(datatype, bytes).ok_or_else(|| wrong(&name, "its bytes are not whole"))?
        } else {
            of_contents(datatype, output.contents.unwrap_or_default())
        };
        if elements(&shape) != Some(data.len()) {
            return Err(wrong(&name, &format!("shape {shape:?} for {} elements", data.len())));
        }
        let tensor = Tensor {
            name,
            datatype,
            shape,
            data,
            parameters: output.parameters.into_iter().filter_map(member).collect(),
        };
        outputs.push(tensor.json());
    }
    let mut body = json!({"model_name": response.model_name, "outputs": outputs});
    for (name, value) in [("model_version", response.model_version), ("id", response.id)] {
        if !value.is_empty() {
            body[name] = json!(value);
        }
    }
    let members: Map<String, Value> = response.parameters.into_iter().filter_map(member).collect();
    if !members.is_empty() {
        body["parameters"] = Value::Object(members);
    }
    Ok(body)
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn parameters(members: &Map<String, Value>) -> std::collections::HashMap<String, InferParameter> {
    let choice = |value: &Value| {
        Some(match value {
            Value::Bool(is) => ParameterChoice::BoolParam(*is),
            Value::Number(number) if number.is_i64() => ParameterChoice::Int64Param(number.as_i64()?),
            Value::Number(number) => ParameterChoice::DoubleParam(number.as_f64()?),
            Value::String(text) => ParameterChoice::StringParam(text.clone()),
            Value::Null => return None,
            other => ParameterChoice::StringParam(other.to_string()),
        })
    };
    let parameters = members.iter().filter_map(|(name, value)| {
        let parameter_choice = Some(choice(value)?);
        Some((name.clone(), InferParameter { parameter_choice }))
    });
    parameters.collect()
}

pub(super) fn member((name, parameter): (String, InferParameter)) -> Option<(String, Value)> {
    let value = match parameter.parameter_choice? {
        ParameterChoice::BoolParam(is) => json!(is),
        ParameterChoice::Int64Param(number) => json!(number),
        ParameterChoice::StringParam(text) => json!(text),
        ParameterChoice::DoubleParam(number) => json!(number),
        ParameterChoice::Uint64Param(number) => json!(number),
    };
    Some((name, value))
}

fn each<T>(tensor: &Tensor, convert: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, InputError> {
    let converted = tensor.data.iter().map(|value| {
        convert(value).ok_or_else(|| InputError::Element {
            name: tensor.name.clone(),
            datatype: tensor.datatype,
            value: value.to_string(),
        })
    });
    converted.collect()
}

/// What is missing is not a number.
fn double(value: &Value) -> Option<f64> {
    if value.is_null() {
        Some(f64::NAN)
    } else {
        infinite(value).or_else(|| value.as_f64())
    }
}

/// As an answer has it, which may be the next model's input.
fn infinite(value: &Value) -> Option<f64> {
    match value.as_str()? {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "single precision is what the model asks for"
)]
fn single(value: &Value) -> Option<f32> {
    double(value).map(|number| number as f32)
}

fn whole<T: TryFrom<i128>>(tensor: &Tensor) -> Result<Vec<T>, InputError> {
    each(tensor, |value| {
        let number = value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from))?;
        T::try_from(number).ok()
    })
}

fn text(tensor: &Tensor) -> Result<Vec<Vec<u8>>, InputError> {
    each(tensor, |value| value.as_str().map(|text| text.as_bytes().to_vec()))
}

fn contents(tensor: &Tensor) -> Result<InferTensorContents, InputError> {
    // A request may be written by hand: its values are of the type only after this.
    let tensor = &accepted(tensor)?;
    let mut all = InferTensorContents::default();
    match tensor.datatype {
        Datatype::Bool => all.bool_contents = each(tensor, Value::as_bool)?,
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => all.int_contents = whole(tensor)?,
        Datatype::Int64 => all.int64_contents = whole(tensor)?,
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => all.uint_contents = whole(tensor)?,
        Datatype::Uint64 => all.uint64_contents = whole(tensor)?,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 => all.fp32_contents = each(tensor, single)?,
        Datatype::Fp64 => all.fp64_contents = each(tensor, double)?,
        Datatype::Bytes => all.bytes_contents = text(tensor)?,
    }
    Ok(all)
}

fn accepted(tensor: &Tensor) -> Result<Tensor, InputError> {
    let data = each(tensor, |value| {
        let known = infinite(value).map(|_| value.clone());
        known.or_else(|| tensor.datatype.accept(value))
    })?;
    Ok(Tensor { data, ..tensor.clone() })
}

fn of_contents(datatype: Datatype, all: InferTensorContents) -> Vec<Value> {
    match datatype {
        Datatype::Bool => values(all.bool_contents, Value::Bool),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => values(all.int_contents, Value::from),
        Datatype::Int64 => values(all.int64_contents, Value::from),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => values(all.uint_contents, Value::from),
        Datatype::Uint64 => values(all.uint64_contents, Value::from),
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 => values(all.fp32_contents, of_single),
        Datatype::Fp64 => values(all.fp64_contents, of_double),
        Datatype::Bytes => values(all.bytes_contents, |bytes| of_bytes(&bytes)),
    }
}

fn values<T>(list: Vec<T>, value: impl Fn(T) -> Value) -> Vec<Value> {
    list.into_iter().map(value).collect()
}

/// What JSON has no number for becomes a text, as Python calls it: null would be none of the three.
fn of_double(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => json!("NaN"),
        None if number > 0.0 => json!("Infinity"),
        None => json!("-Infinity"),
    }
}

/// With no more digits than single precision has: 0.1, not 0.10000000149011612.
fn of_single(number: f32) -> Value {
    number.to_string().parse().map_or(Value::Null, of_double)
}

/// As text where it is one.
fn of_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(STANDARD.encode(bytes)),
    }
}

/// As bytes.
pub(super) fn raw(tensor: &Tensor) -> Result<Vec<u8>, InputError> {
    fn all<const N: usize>(list: Vec<[u8; N]>) -> Vec<u8> {
        list.concat()
    }
    let tensor = &accepted(tensor)?;
    Ok(match tensor.datatype {
        Datatype::Bool => each(tensor, |value| value.as_bool().map(u8::from))?,
        Datatype::Uint8 => whole::<u8>(tensor)?,
        Datatype::Uint16 => all(whole::<u16>(tensor)?.into_iter().map(u16::to_le_bytes).collect()),
        Datatype::Uint32 => all(whole::<u32>(tensor)?.into_iter().map(u32::to_le_bytes).collect()),
        Datatype::Uint64 => all(whole::<u64>(tensor)?.into_iter().map(u64::to_le_bytes).collect()),
        Datatype::Int8 => all(whole::<i8>(tensor)?.into_iter().map(i8::to_le_bytes).collect()),
        Datatype::Int16 => all(whole::<i16>(tensor)?.into_iter().map(i16::to_le_bytes).collect()),
        Datatype::Int32 => all(whole::<i32>(tensor)?.into_iter().map(i32::to_le_bytes).collect()),
        Datatype::Int64 => all(whole::<i64>(tensor)?.into_iter().map(i64::to_le_bytes).collect()),
        Datatype::Fp16 => all(each(tensor, single)?
            .into_iter()
            .map(half)
            .map(u16::to_le_bytes)
            .collect()),
        Datatype::Bf16 => all(each(tensor, single)?
            .into_iter()
            .map(brain)
            .map(u16::to_le_bytes)
            .collect()),
        Datatype::Fp32 => all(each(tensor, single)?.into_iter().map(f32::to_le_bytes).collect()),
        Datatype::Fp64 => all(each(tensor, double)?.into_iter().map(f64::to_le_bytes).collect()),
        Datatype::Bytes => {
            let mut bytes = Vec::new();
            for text in text(tensor)? {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                bytes.extend(length.to_le_bytes());
                bytes.extend(text);
            }
            bytes
        }
    })
}

/// From bytes; none where these are not whole.
pub(super) fn of_raw(datatype: Datatype, bytes: &[u8]) -> Option<Vec<Value>> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> Value) -> Vec<Value> {
        let chunks = bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok());
        chunks.map(value).collect()
    }
    if let Some(width) = datatype.width()
        && !bytes.len().is_multiple_of(width)
    {
        return None;
    }
    Some(match datatype {
        Datatype::Bool => each(bytes, |[byte]: [u8; 1]| Value::Bool(byte != 0)),
        Datatype::Uint8 => each(bytes, |[byte]: [u8; 1]| json!(byte)),
        Datatype::Uint16 => each(bytes, |b| json!(u16::from_le_bytes(b))),
        Datatype::Uint32 => each(bytes, |b| json!(u32::from_le_bytes(b))),
        Datatype::Uint64 => each(bytes, |b| json!(u64::from_le_bytes(b))),
        Datatype::Int8 => each(bytes, |b| json!(i8::from_le_bytes(b))),
        Datatype::Int16 => each(bytes, |b| json!(i16::from_le_bytes(b))),
        Datatype::Int32 => each(bytes, |b| json!(i32::from_le_bytes(b))),
        Datatype::Int64 => each(bytes, |b| json!(i64::from_le_bytes(b))),
        Datatype::Fp16 => each(bytes, |b| of_single(of_half(u16::from_le_bytes(b)))),
        Datatype::Bf16 => each(bytes, |b| {
            of_single(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
        }),
        Datatype::Fp32 => each(bytes, |b| of_single(f32::from_le_bytes(b))),
        Datatype::Fp64 => each(bytes, |b| of_double(f64::from_le_bytes(b))),
        Datatype::Bytes => {
            let (mut rest, mut list) = (bytes, Vec::new());
            while !rest.is_empty() {
                let (length, after) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                let (text, after) = after.split_at_checked(length)?;
                list.push(of_bytes(text));
                rest = after;
            }
            list
        }
    })
}

/// Half precision, to the nearest, ties to even; too large is infinite.
fn half(number: f32) -> u16 {
    let bits = number.to_bits();
    let sign = u16::try_from(bits >> 16 & 0x8000).unwrap_or_default();
    let magnitude = bits & 0x7fff_ffff;
    let rounded = |value: u32, shift: u32| {
        let (kept, lost) = (value >> shift, value & ((1 << shift) - 1));
        let tie = 1 << (shift - 1);
        kept + u32::from(lost > tie || (lost == tie && kept & 1 == 1))
    };
    let bits = match magnitude {
        0x7f80_0001.. => 0x7e00,
        // From 65520 on the nearest is infinite.
        0x477f_f000.. => 0x7c00,
        // The exponent moves from a bias of 127 to one of 15.
        0x3880_0000.. => rounded(magnitude - 0x3800_0000, 13),
        // Below 2^-14 there is no hidden one, below 2^-25 nothing.
        0x3300_0000.. => rounded(magnitude & 0x007f_ffff | 0x0080_0000, 126 - (magnitude >> 23)),
        _ => 0,
    };
    sign | u16::try_from(bits).unwrap_or(0x7c00)
}

fn of_half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f32.powi(i32::from(exponent) - 15),
    }
}

/// The upper half, to the nearest.
fn brain(number: f32) -> u16 {
    if number.is_nan() {
        return 0x7fc0;
    }
    let bits = number.to_bits();
    let rounded = bits + 0x7fff + (bits >> 16 & 1);
    u16::try_from(rounded >> 16).unwrap_or_default()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
