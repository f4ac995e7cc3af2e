use proptest::prelude::*;

use super::*;
use crate::predict::protocol::model_infer_response::InferOutputTensor;

fn tensor(datatype: Datatype, data: Vec<Value>) -> Tensor {
    Tensor {
        name: "x".into(),
        datatype,
        shape: vec![data.len()],
        data,
        parameters: Map::new(),
    }
}

fn sent(tensor: Tensor) -> ModelInferRequest {
    let whole = Request {
        inputs: vec![tensor],
        others: Map::from_iter([(
            "parameters".to_owned(),
            json!({"content_type": "np", "n": 3, "on": true}),
        )]),
    };
    request("fraud", &whole).unwrap()
}

/// A server that answers with what it was asked.
fn echoed(request: ModelInferRequest) -> Value {
    let outputs = request.inputs.into_iter().map(|input| InferOutputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        parameters: input.parameters,
        contents: input.contents,
    });
    let response = ModelInferResponse {
        model_name: request.model_name,
        parameters: request.parameters,
        outputs: outputs.collect(),
        raw_output_contents: request.raw_input_contents,
        ..ModelInferResponse::default()
    };
    answer(response).unwrap()
}

#[test]
fn sixteen_bits_go_raw_and_others_by_type() {
    let by_type = sent(tensor(Datatype::Fp32, vec![json!(0.1), json!(null)]));
    assert!(by_type.raw_input_contents.is_empty());
    let echo = echoed(by_type);
    // What is missing is sent as what is no number.
    assert_eq!(echo["outputs"][0]["data"], json!([0.1, "NaN"]));
    assert_eq!(echo["parameters"], json!({"content_type": "np", "n": 3, "on": true}));

    let raw = sent(tensor(Datatype::Fp16, vec![json!(0.5), json!(-2), json!(65504)]));
    assert_eq!(raw.raw_input_contents[0].len(), 6);
    assert_eq!(echoed(raw)["outputs"][0]["data"], json!([0.5, -2.0, 65504.0]));
}

#[test]
fn who_asks_for_some_outputs_alone_asks_so_over_grpc_too() {
    let asked = |outputs: Value| {
        let whole = Request {
            inputs: vec![tensor(Datatype::Fp32, vec![json!(0.1)])],
            others: Map::from_iter([("outputs".to_owned(), outputs)]),
        };
        request("fraud", &whole)
    };
    let outputs = asked(json!([{"name": "label"}, {"name": "score", "parameters": {"content_type": "np"}}]));
    let outputs = outputs.unwrap().outputs;
    let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["label", "score"]);
    let parameters = outputs[1].parameters.clone().into_iter().filter_map(member);
    assert_eq!(
        parameters.collect::<Vec<_>>(),
        [("content_type".to_owned(), json!("np"))]
    );
    assert!(asked(json!([])).unwrap().outputs.is_empty());
    for wrong in [json!("label"), json!([{"parameters": {}}])] {
        assert!(asked(wrong).unwrap_err().to_string().starts_with("tensor outputs: "));
    }
}

#[test]
fn what_is_no_number_and_what_is_infinite_are_told_apart() {
    let told = json!(["NaN", "Infinity", "-Infinity", 1.0]);
    let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0];
    assert_eq!(json!(doubles.map(of_double)), told);
    let halves: Vec<u8> = [0x7e00_u16, 0x7c00, 0xfc00, 0x3c00]
        .into_iter()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(of_raw(Datatype::Fp16, &halves).map(Value::from), Some(told));
}

#[test]
fn half_precision_is_that_of_ieee() {
    for (number, bits) in [
        (0.0, 0),
        (-0.0, 0x8000),
        (1.0, 0x3c00),
        (65504.0, 0x7bff),
        (65519.9, 0x7bff),
        (65520.0, 0x7c00),
        (f32::INFINITY, 0x7c00),
        (f32::NEG_INFINITY, 0xfc00),
        (2_f32.powi(-14), 0x0400),
        (2_f32.powi(-24), 0x0001),
        (2_f32.powi(-25), 0x0000),
        (1.5 * 2_f32.powi(-25), 0x0001),
        (1.0 + 1.0 / 2048.0, 0x3c00),
        (1.0 + 3.0 / 2048.0, 0x3c02),
    ] {
        assert_eq!(half(number), bits, "{number}");
    }
    assert!(of_half(half(f32::NAN)).is_nan());
}

#[test]
fn every_half_comes_back() {
    for bits in 0..=u16::MAX {
        let number = of_half(bits);
        if !number.is_nan() {
            assert_eq!(half(number), bits, "{number}");
        }
    }
}

#[test]
fn bytes_that_are_not_whole_are_no_answer() {
    assert_eq!(of_raw(Datatype::Fp32, &[0, 0, 0]), None);
    assert_eq!(of_raw(Datatype::Bytes, &[4, 0, 0, 0, b'a']), None);
    assert_eq!(of_raw(Datatype::Bytes, &[1, 0, 0]), None);
    assert_eq!(
        of_raw(Datatype::Bytes, &[1, 0, 0, 0, b'a', 0, 0, 0, 0]),
        Some(vec![json!("a"), json!("")])
    );
    let output = InferOutputTensor {
        name: "y".into(),
        datatype: "FP32".into(),
        shape: vec![2],
        ..InferOutputTensor::default()
    };
    let response = ModelInferResponse {
        outputs: vec![output],
        ..ModelInferResponse::default()
    };
    assert!(answer(response).unwrap_err().to_string().contains("for 0 elements"));
}

#[test]
fn bytes_that_are_no_text_are_written_in_base64() {
    assert_eq!(of_bytes(&[0xff, 0xfe]), json!("//4="));
}

/// Elements of a type, as JSON.
fn of(datatype: Datatype) -> BoxedStrategy<Value> {
    let text = "\\PC{0,12}".prop_map(|text| json!(text)).boxed();
    match datatype {
        Datatype::Bool => any::<bool>().prop_map(|v| json!(v)).boxed(),
        Datatype::Uint8 => any::<u8>().prop_map(|v| json!(v)).boxed(),
        Datatype::Uint16 => any::<u16>().prop_map(|v| json!(v)).boxed(),
        Datatype::Uint32 => any::<u32>().prop_map(|v| json!(v)).boxed(),
        Datatype::Uint64 => any::<u64>().prop_map(|v| json!(v)).boxed(),
        Datatype::Int8 => any::<i8>().prop_map(|v| json!(v)).boxed(),
        Datatype::Int16 => any::<i16>().prop_map(|v| json!(v)).boxed(),
        Datatype::Int32 => any::<i32>().prop_map(|v| json!(v)).boxed(),
        Datatype::Int64 => any::<i64>().prop_map(|v| json!(v)).boxed(),
        Datatype::Fp16 => any::<u16>().prop_map(|v| of_single(of_half(v))).boxed(),
        Datatype::Bf16 => any::<u16>()
            .prop_map(|v| of_single(f32::from_bits(u32::from(v) << 16)))
            .boxed(),
        Datatype::Fp32 => any::<f32>().prop_map(of_single).boxed(),
        Datatype::Fp64 => any::<f64>().prop_map(of_double).boxed(),
        Datatype::Bytes => text,
    }
}

fn tensors() -> impl Strategy<Value = Tensor> {
    let datatypes = prop::sample::select(Datatype::ALL.to_vec());
    datatypes.prop_flat_map(|datatype| {
        prop::collection::vec(of(datatype), 0..8).prop_map(move |data| tensor(datatype, data))
    })
}

proptest! {
    #[test]
    fn what_is_sent_over_grpc_comes_back(tensor in tensors()) {
        let echo = echoed(sent(tensor.clone()));
        prop_assert_eq!(&echo["outputs"][0], &tensor.json());
    }

    #[test]
    fn what_is_written_raw_comes_back(tensor in tensors()) {
        let bytes = raw(&tensor).unwrap();
        prop_assert_eq!(of_raw(tensor.datatype, &bytes), Some(tensor.data));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        datatype in prop::sample::select(Datatype::ALL.to_vec()),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = of_raw(datatype, &bytes);
    }
}
