//! What a tensor's elements are, in the words of all who have some for it.

use std::fmt;
use std::str::FromStr;

use serde_json::{Number, Value};

/// An element's type, as the Open Inference Protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    /// true or false
    Bool,
    /// 8 bits, unsigned
    Uint8,
    /// 16 bits, unsigned
    Uint16,
    /// 32 bits, unsigned
    Uint32,
    /// 64 bits, unsigned
    Uint64,
    /// 8 bits
    Int8,
    /// 16 bits
    Int16,
    /// 32 bits
    Int32,
    /// 64 bits
    Int64,
    /// IEEE 754, 16 bits
    Fp16,
    /// The upper half of an [`Self::Fp32`]
    Bf16,
    /// IEEE 754, 32 bits
    Fp32,
    /// IEEE 754, 64 bits
    Fp64,
    /// Text, or any bytes
    Bytes,
}

/// A type that no server knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no datatype of the protocol; there are {known}", known = Datatype::ALL.map(Datatype::as_str).join(", "))]
pub struct UnknownDatatype(pub(super) String);

impl Datatype {
    /// Each.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// As requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// By numpy's name; texts and objects are bytes.
    pub fn of_numpy(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "bool" => Self::Bool,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            "uint64" => Self::Uint64,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float16" => Self::Fp16,
            "float32" => Self::Fp32,
            "float64" => Self::Fp64,
            "object" | "str" | "bytes" => Self::Bytes,
            other if other.starts_with("<U") || other.starts_with("|S") || other.starts_with("str") => Self::Bytes,
            _ => return None,
        })
    }

    /// By numpy's name for it; none for what numpy has no type of.
    pub fn numpy(self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "bool",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Fp16 => "float16",
            Self::Fp32 => "float32",
            Self::Fp64 => "float64",
            Self::Bytes => "object",
            Self::Bf16 => return None,
        })
    }

    /// By the word of `MLflow` for a column's type, with the codec that `MLServer` reads such a column by (`parameters.content_type`).
    pub fn of_column(column: &str) -> Option<(Self, Option<&'static str>)> {
        Some(match column {
            "boolean" => (Self::Bool, None),
            "integer" => (Self::Int32, None),
            "long" => (Self::Int64, None),
            "float" => (Self::Fp32, None),
            "double" => (Self::Fp64, None),
            "string" => (Self::Bytes, Some("str")),
            "binary" => (Self::Bytes, Some("base64")),
            "datetime" => (Self::Bytes, Some("datetime")),
            _ => return None,
        })
    }

    /// Bytes of one element; none where they differ.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// The narrowest that holds all of these: whole numbers, else fractions, else text.
    pub fn of_values<'a>(values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut found = None;
        for value in values {
            let one = match value {
                Value::Bool(_) => Self::Bool,
                Value::Number(number) if number.is_i64() => Self::Int64,
                Value::Number(number) if number.is_u64() => Self::Uint64,
                // What is missing in a table is not a number.
                Value::Number(_) | Value::Null => Self::Fp64,
                _ => return Self::Bytes,
            };
            found = Some(match (found, one) {
                (None, one) => one,
                (Some(before), one) if before == one => one,
                (Some(Self::Bool), _) | (Some(_), Self::Bool) => return Self::Bytes,
                (Some(Self::Int64), Self::Uint64) | (Some(Self::Uint64), Self::Int64) => Self::Uint64,
                (Some(_), _) => Self::Fp64,
            });
        }
        found.unwrap_or(Self::Fp64)
    }

    /// A value as one of this type, where nothing of it is lost: `"3"` is a number where one is wanted, 3.5 is no whole number.
    pub fn accept(self, value: &Value) -> Option<Value> {
        match self {
            Self::Bool => match value {
                Value::Bool(_) => Some(value.clone()),
                Value::Number(number) => match number.as_u64() {
                    Some(0) => Some(Value::Bool(false)),
                    Some(1) => Some(Value::Bool(true)),
                    _ => None,
                },
                Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                    "true" | "1" => Some(Value::Bool(true)),
                    "false" | "0" => Some(Value::Bool(false)),
                    _ => None,
                },
                _ => None,
            },
            Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 => match value {
                Value::Null | Value::Number(_) => Some(value.clone()),
                Value::Bool(is) => Some(Number::from(u8::from(*is)).into()),
                Value::String(text) if text.trim().is_empty() => Some(Value::Null),
                Value::String(text) => fraction(text),
                _ => None,
            },
            Self::Bytes => match value {
                Value::String(_) => Some(value.clone()),
                Value::Null => None,
                other => Some(Value::String(other.to_string())),
            },
            whole => {
                let number = match value {
                    Value::Bool(is) => i128::from(*is),
                    Value::Number(number) => whole_number(number)?,
                    Value::String(text) => text.trim().parse().ok()?,
                    _ => return None,
                };
                let (least, most) = whole.range()?;
                if number < least || number > most {
                    return None;
                }
                let number = i64::try_from(number)
                    .map(Number::from)
                    .or_else(|_| u64::try_from(number).map(Number::from));
                number.ok().map(Value::Number)
            }
        }
    }

    /// Of a whole number.
    fn range(self) -> Option<(i128, i128)> {
        let signed = |bits: u32| (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1);
        let unsigned = |bits: u32| (0, (1_i128 << bits) - 1);
        Some(match self {
            Self::Int8 => signed(8),
            Self::Int16 => signed(16),
            Self::Int32 => signed(32),
            Self::Int64 => signed(64),
            Self::Uint8 => unsigned(8),
            Self::Uint16 => unsigned(16),
            Self::Uint32 => unsigned(32),
            Self::Uint64 => unsigned(64),
            _ => return None,
        })
    }
}

/// `3`, and `3.0` too; not `3.5`.
fn whole_number(number: &Number) -> Option<i128> {
    if let Some(whole) = number.as_i128() {
        return Some(whole);
    }
    let fraction = number.as_f64()?;
    // Beyond this a double has no room for the last digits.
    let is_whole = fraction.fract() == 0.0 && fraction.abs() < 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    is_whole.then_some(fraction as i128)
}

fn fraction(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("nan") {
        return Some(Value::Null);
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let number = text.parse::<f64>().ok()?;
    Number::from_f64(number).map(Value::Number)
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Datatype {
    type Err = UnknownDatatype;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|datatype| datatype.as_str() == word);
        found.ok_or_else(|| UnknownDatatype(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_names_lead_back() {
        for datatype in Datatype::ALL {
            assert_eq!(datatype.as_str().parse(), Ok(datatype));
            if let Some(numpy) = datatype.numpy() {
                assert_eq!(Datatype::of_numpy(numpy), Some(datatype));
            }
        }
        assert!("float32".parse::<Datatype>().is_err());
        assert_eq!(Datatype::of_numpy("<U12"), Some(Datatype::Bytes));
    }

    #[test]
    fn values_choose_the_narrowest_type_for_all() {
        let of = |values: Value| Datatype::of_values(values.as_array().unwrap());
        assert_eq!(of(json!([1, 2])), Datatype::Int64);
        assert_eq!(of(json!([1, 2.5])), Datatype::Fp64);
        assert_eq!(of(json!([1, null])), Datatype::Fp64);
        assert_eq!(of(json!([1, u64::MAX])), Datatype::Uint64);
        assert_eq!(of(json!([true, false])), Datatype::Bool);
        assert_eq!(of(json!([true, 1])), Datatype::Bytes);
        assert_eq!(of(json!(["a", 1])), Datatype::Bytes);
    }

    #[test]
    fn a_value_is_taken_where_nothing_of_it_is_lost() {
        let taken = |datatype: Datatype, value: Value| datatype.accept(&value);
        assert_eq!(taken(Datatype::Fp32, json!("1.5")), Some(json!(1.5)));
        assert_eq!(taken(Datatype::Fp32, json!("")), Some(json!(null)));
        assert_eq!(taken(Datatype::Fp32, json!("x")), None);
        assert_eq!(taken(Datatype::Int32, json!(3.0)), Some(json!(3)));
        assert_eq!(taken(Datatype::Int32, json!(3.5)), None);
        assert_eq!(taken(Datatype::Int8, json!(128)), None);
        assert_eq!(taken(Datatype::Uint64, json!(u64::MAX)), Some(json!(u64::MAX)));
        assert_eq!(taken(Datatype::Uint8, json!(-1)), None);
        assert_eq!(taken(Datatype::Bool, json!("True")), Some(json!(true)));
        assert_eq!(taken(Datatype::Bytes, json!(7)), Some(json!("7")));
        assert_eq!(taken(Datatype::Bytes, json!(null)), None);
    }
}
