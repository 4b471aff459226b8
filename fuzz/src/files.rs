//! Model files and page images: binary formats.

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use llmos_model::engine::SequenceOptions;
use llmos_model::file::{GgufHeader, PeftAdapter, read_safetensors};
use llmos_model::{Dialect, Engine, EngineOptions, Error, Model, ModelFiles};
use llmos_tensor::{CacheType, DType, Device, Isa, quant};

use super::scratch::{Scratch, folder, read};

/// Reads all that an opened model gives.
fn exercise(path: &Path) -> Result<(), Error> {
    let files = ModelFiles::open(path)?;
    for info in files.tensors() {
        if let Some(tensor) = files.tensor(&info.name)? {
            assert_eq!(tensor.to_f32()?.len(), info.shape.iter().product::<usize>());
        }
    }
    files.vocabulary()?;
    files.metadata();
    files.type_name();
    files.config()?;
    Ok(())
}

/// A GGUF file: its header, then all that an opened model gives.
pub fn gguf(bytes: &[u8]) -> bool {
    if GgufHeader::read(bytes, Path::new("fuzzed")).is_err() {
        return false;
    }
    let scratch = Scratch::new();
    exercise(&scratch.write("model.gguf", bytes)).is_ok()
}

pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    vec![read("testdata/split/whole.gguf"), read("testdata/split/part-00001-of-00003.gguf")]
}

/// A safetensors file: its header, then a folder with a config that it may not fit.
pub fn safetensors(bytes: &[u8]) -> bool {
    if read_safetensors(bytes, Path::new("fuzzed")).is_err() {
        return false;
    }
    let scratch = Scratch::new();
    scratch.write("config.json", &read("testdata/architectures/llama-linear/config.json"));
    scratch.write("model.safetensors", bytes);
    exercise(scratch.path()).is_ok()
}

pub(crate) fn safetensors_seeds() -> Vec<Vec<u8>> {
    let header = br#"{"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}"#;
    let small = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    vec![read("testdata/architectures/llama-linear/model.safetensors"), small]
}

/// An adapter beside a base that it may not fit: the first two bytes are the length of its config,
/// its weights follow.
pub fn peft(bytes: &[u8]) -> bool {
    static BASE: LazyLock<ModelFiles> = LazyLock::new(|| {
        let root = folder("testdata/architectures/llama-linear");
        ModelFiles::open(&root).expect("a sound folder")
    });
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return false };
    let Some((config, weights)) = rest.split_at_checked(u16::from_le_bytes(*length).into()) else {
        return false;
    };
    let scratch = Scratch::new();
    scratch.write("adapter_config.json", config);
    scratch.write("adapter_model.safetensors", weights);
    let dialect = Dialect::of(BASE.config().expect("a sound config"));
    PeftAdapter::open(scratch.path(), dialect).and_then(|read| read.check_base(&BASE)).is_ok()
}

pub(crate) fn peft_seeds() -> Vec<Vec<u8>> {
    let config = br#"{"peft_type":"LORA","r":1,"lora_alpha":2,"target_modules":["q_proj"]}"#;
    let header = br#"{"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":
        {"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight":
        {"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}"#;
    let length = |n: usize| (n as u16).to_le_bytes();
    let weights = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 16]].concat();
    vec![[&length(config.len())[..], config, &weights].concat()]
}

/// A `config.json` beside weights that it may not fit.
pub fn config_json(bytes: &[u8]) -> bool {
    static WEIGHTS: LazyLock<Vec<u8>> =
        LazyLock::new(|| read("testdata/architectures/llama-linear/model.safetensors"));
    let scratch = Scratch::new();
    scratch.write("config.json", bytes);
    scratch.write("model.safetensors", &WEIGHTS);
    exercise(scratch.path()).is_ok()
}

pub(crate) fn config_json_seeds() -> Vec<Vec<u8>> {
    const NAMES: [&str; 6] =
        ["llama-linear", "llama3", "yarn", "gemma3", "phi3-longrope", "qwen3moe"];
    NAMES.map(|name| read(&format!("testdata/architectures/{name}/config.json"))).to_vec()
}

/// A llama2.c checkpoint.
pub fn llama2c(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    exercise(&scratch.write("model.bin", bytes)).is_ok()
}

pub(crate) fn llama2c_seeds() -> Vec<Vec<u8>> {
    // Width 8, inner width 12, 1 layer, 2 heads, 1 key-value head, 5 tokens, context 4.
    let header = [8i32, 12, 1, 2, 1, 5, 4].into_iter().flat_map(i32::to_le_bytes);
    let n_float = 5 * 8 + 8 + 64 + 32 + 32 + 64 + 8 + 3 * 96 + 8 + 2 * 4 * 2;
    let floats = (0..n_float).flat_map(|i| (i as f32).to_le_bytes());
    vec![header.chain(floats).collect()]
}

/// Blocks of a format (the first byte says which): to numbers, and back where that is written.
pub fn dequantize(bytes: &[u8]) -> bool {
    let Some((&first, blocks)) = bytes.split_first() else { return false };
    let dtype = DType::ALL[first as usize % DType::ALL.len()];
    let n_block = blocks.len() / dtype.block_bytes();
    let whole = &blocks[..n_block * dtype.block_bytes()];
    let mut values = vec![0.0; n_block * dtype.block_len()];
    quant::dequantize(dtype, whole, &mut values).expect("whole blocks");
    assert_eq!(quant::dequantize(dtype, blocks, &mut values).is_ok(), whole.len() == blocks.len());
    let mut written = Vec::new();
    if quant::quantize(dtype, &values, &mut written).is_ok() {
        assert_eq!(written.len(), whole.len());
    }
    whole.len() == blocks.len()
}

pub(crate) fn dequantize_seeds() -> Vec<Vec<u8>> {
    let blocks: Vec<u8> = (0..300u32).map(|i| (i * 97 % 251) as u8).collect();
    let seed =
        |index: usize, dtype: &DType| [&[index as u8][..], &blocks[..dtype.block_bytes()]].concat();
    DType::ALL.iter().enumerate().map(|(index, dtype)| seed(index, dtype)).collect()
}

/// An engine of a tiny model, one for all inputs.
fn engine() -> &'static Mutex<Engine> {
    static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(|| {
        let scratch = Scratch::new();
        for name in ["config.json", "model.safetensors"] {
            scratch.write(name, &read(&format!("testdata/architectures/llama-linear/{name}")));
        }
        let device = Arc::new(Device::new(Isa::detect(), 1));
        let files = ModelFiles::open(scratch.path()).expect("a sound folder");
        let model = Arc::new(Model::load(files, &device).expect("a sound model"));
        let options = EngineOptions {
            context: Some(64),
            cache_bytes: Some(1 << 20),
            cache_type: CacheType::F16,
            ..EngineOptions::default()
        };
        Mutex::new(Engine::new(model, device, options).expect("a small engine"))
    });
    &ENGINE
}

/// The image of a sequence that was paged out.
fn image() -> Vec<u8> {
    let mut engine = engine().lock().unwrap_or_else(PoisonError::into_inner);
    let id = engine.add(&[1, 2, 3], SequenceOptions::default()).expect("room for three tokens");
    while !engine.is_ready(id).expect("the sequence is there") {
        engine.step().expect("three tokens can be computed");
    }
    let mut image = Vec::new();
    engine.page_out(id, &mut image).expect("memory can be written");
    image
}

/// Bytes of an image that only name the model and the layout.
const IMAGE_NAMES: usize = 8 + 4 * 8;

/// What follows the names in a page image; its check value is put right, so that it is read.
pub fn page_image(bytes: &[u8]) -> bool {
    static NAMES: LazyLock<Vec<u8>> = LazyLock::new(|| image()[..IMAGE_NAMES].to_vec());
    let mut whole = [&NAMES[..], bytes].concat();
    let check = crc32(&whole);
    whole.extend(check.to_le_bytes());
    let mut engine = engine().lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(id) = engine.page_in(&mut &whole[..]) else { return false };
    for _ in 0..4 {
        let _ = engine.step();
    }
    engine.remove(id).is_ok()
}

pub(crate) fn page_image_seeds() -> Vec<Vec<u8>> {
    let image = image();
    vec![image[IMAGE_NAMES..image.len() - 4].to_vec()]
}

/// CRC-32 of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
