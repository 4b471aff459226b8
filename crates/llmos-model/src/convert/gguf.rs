//! Writes a GGUF file, version 3, that llama.cpp loads.

use std::ops::ControlFlow;
use std::path::Path;

use llmos_tensor::DType;

use super::partial::{Output, Partial};
use super::{Conversion, Converted, Data, FileType, OutputVocabulary, Planned, Source, stream};
use crate::Error;
use crate::architecture::{
    Architecture, Scaling, gemma_27b_layers, llama3_factors, yarn_magnitude,
};
use crate::file::{GgufVocabulary, code_of};

const ALIGNMENT: usize = 32;

pub(super) fn write(
    source: &Source<'_>,
    output: &Path,
    conversion: &Conversion,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Converted, Error> {
    let file_type = conversion.file_type;
    let planned = plan(source, file_type);
    let mut warnings: Vec<String> = source.requantised(&planned).into_iter().collect();
    if !has_type(source, file_type) {
        warnings.extend(misfits(&planned, file_type));
    }
    let quantised = planned.iter().any(|tensor| tensor.dtype.is_quantised());

    let mut header = Header::default();
    match source.files.gguf_metadata() {
        Some(metadata) => copy_metadata(&mut header, source, metadata, conversion, quantised)?,
        None => describe(&mut header, source, file_type, quantised, &mut warnings)?,
    }
    match (&conversion.vocabulary, source.files.gguf_metadata()) {
        (OutputVocabulary::Gguf(vocabulary), _) => {
            write_vocabulary(&mut header, vocabulary, source.config.vocab_size)?;
            warnings.extend(misreadings(vocabulary));
        }
        (OutputVocabulary::AsInput, Some(_)) => {}
        (OutputVocabulary::AsInput, None) => {
            header.string("tokenizer.ggml.model", "none");
            warnings.push("the file has no tokenizer".to_owned());
        }
        (OutputVocabulary::HuggingFace { .. }, _) => {
            return Err(Error::request("convert", "a GGUF vocabulary", "a Hugging Face one"));
        }
    }

    let partial = Partial::beside(output)?;
    let mut file = Output::create(partial.path())?;
    let (head, total) = header.finish(&planned)?;
    file.write(&head)?;
    file.pad(head.len(), ALIGNMENT)?;
    let mut done = 0;
    for tensor in &planned {
        let before = done;
        stream::tensor(source.files, tensor, conversion.threads, &mut file, &mut |bytes| {
            done += bytes as u64;
            progress(done, total)
        })?;
        file.pad((done - before) as usize, ALIGNMENT)?;
    }
    file.finish()?;
    partial.commit()?;
    Ok(Converted { warnings, tensor_bytes: done })
}

fn plan<'a>(source: &Source<'a>, file_type: FileType) -> Vec<Planned<'a>> {
    let pairing = source.architecture().gguf_pairing();
    let same = has_type(source, file_type);
    let mut planned: Vec<Planned<'a>> = source
        .tensors()
        .map(|info| Planned {
            name: info.name.clone(),
            dtype: if same {
                info.dtype
            } else {
                file_type.dtype(&info.name, &info.shape, source.config)
            },
            shape: info.shape.clone(),
            data: Data::Copied(source.copied(info, pairing, 0.0)),
        })
        .collect();
    for (name, values) in rope_tensors(source) {
        planned.push(Planned {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: vec![values.len()],
            data: Data::Computed(values),
        });
    }
    planned
}

/// A file that has this type already keeps each tensor's format, whoever chose it.
fn has_type(source: &Source<'_>, file_type: FileType) -> bool {
    source.files.gguf_metadata().is_some() && source.files.type_name() == file_type.name()
}

/// Says that tensors take more bytes than the type promises.
fn misfits(planned: &[Planned<'_>], file_type: FileType) -> Option<String> {
    let block = file_type.base().block_len();
    let misfit = |tensor: &&Planned<'_>| {
        matches!(tensor.dtype, DType::Q8_0 | DType::F16)
            && tensor.shape.last().is_some_and(|cols| !cols.is_multiple_of(block))
    };
    let misfits: Vec<&Planned<'_>> = planned.iter().filter(misfit).collect();
    let mut types: Vec<&str> = misfits.iter().map(|tensor| tensor.dtype.name()).collect();
    types.sort_unstable_by(|a, b| b.cmp(a));
    types.dedup();
    (!misfits.is_empty()).then(|| {
        format!(
            "{} of {} tensors are {}: their rows do not divide into blocks of {block}",
            misfits.len(),
            planned.len(),
            types.join(" or ")
        )
    })
}

/// Scalings that GGUF holds as tensors of divisors.
fn rope_tensors(source: &Source<'_>) -> Vec<(&'static str, Vec<f32>)> {
    let hyperparameters = source.hyperparameters;
    match &hyperparameters.scaling {
        Scaling::Factors(factors) => vec![("rope_freqs.weight", factors.clone())],
        &Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let factors = llama3_factors(
                hyperparameters.rope_theta,
                hyperparameters.n_rot,
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            );
            vec![("rope_freqs.weight", factors.into_iter().map(|x| x as f32).collect())]
        }
        Scaling::LongRope { short, long, .. } => vec![
            ("rope_factors_long.weight", long.clone()),
            ("rope_factors_short.weight", short.clone()),
        ],
        Scaling::None | Scaling::Linear { .. } | Scaling::Yarn { .. } => Vec::new(),
    }
}

/// A GGUF input's own metadata, but for what the conversion changes.
fn copy_metadata(
    header: &mut Header,
    source: &Source<'_>,
    metadata: &crate::file::Metadata,
    conversion: &Conversion,
    quantised: bool,
) -> Result<(), Error> {
    let replaced = matches!(conversion.vocabulary, OutputVocabulary::Gguf(_));
    for (key, _) in metadata.iter() {
        let changes = matches!(
            key,
            "general.file_type" | "general.quantization_version" | "general.alignment"
        );
        let vocabulary = key.starts_with("tokenizer.");
        if changes || key.starts_with("split.") || (vocabulary && replaced) {
            continue;
        }
        let Some(raw) = source.files.raw_value(key) else {
            return Err(Error::format(source.files.path(), key, "a value", "none"));
        };
        header.raw(key, raw);
    }
    header.u32("general.file_type", conversion.file_type.number());
    if quantised {
        header.u32("general.quantization_version", 2);
    }
    Ok(())
}

/// Metadata from what another format says.
fn describe(
    header: &mut Header,
    source: &Source<'_>,
    file_type: FileType,
    quantised: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let model = source.hyperparameters;
    let architecture = model.architecture;
    let key = |key: &str| format!("{}.{key}", architecture.name());
    let count = |n: usize| -> Result<u32, Error> {
        u32::try_from(n).map_err(|_| Error::request("convert", "a 32-bit count", n))
    };
    header.string("general.architecture", architecture.name());
    header.string("general.type", "model");
    // A folder's name may hold dots (qwen2.5-0.5b); a file's ends in one that is not part of it.
    let path = source.files.path();
    let own = if path.is_dir() { path.file_name() } else { path.file_stem() };
    if let Some(name) = model.name.as_deref().or(own.and_then(|name| name.to_str())) {
        header.string("general.name", name);
    }
    header.u32("general.file_type", file_type.number());
    if quantised {
        header.u32("general.quantization_version", 2);
    }
    let counts = [
        ("vocab_size", model.vocab_size),
        ("context_length", model.context_length),
        ("embedding_length", model.d_model),
        ("block_count", model.n_layer),
        ("feed_forward_length", model.d_ff),
        ("attention.head_count", model.n_head),
        ("attention.head_count_kv", model.n_kv_head),
        ("attention.key_length", model.head_dim),
        ("attention.value_length", model.head_dim),
        ("rope.dimension_count", model.n_rot),
    ];
    for (name, n) in counts {
        header.u32(&key(name), count(n)?);
    }
    header.f32(&key("attention.layer_norm_rms_epsilon"), model.norm_eps);
    header.f32(&key("rope.freq_base"), model.rope_theta as f32);
    if let Some(theta) = model.local_theta {
        header.f32(&key("rope.freq_base_swa"), theta as f32);
    }
    describe_scaling(header, source, warnings)?;
    describe_window(header, source, warnings)?;
    if let Some(cap) = model.attention_softcap {
        header.f32(&key("attn_logit_softcapping"), cap);
    }
    if let Some(cap) = model.logit_softcap {
        header.f32(&key("final_logit_softcapping"), cap);
    }
    let gemma = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
    let width = if gemma && model.n_layer == gemma_27b_layers(architecture) {
        model.d_model / model.n_head
    } else {
        model.head_dim
    };
    if model.attention_scale != (width as f32).powf(-0.5) {
        header.f32(&key("attention.scale"), model.attention_scale);
        warnings.push("llama.cpp derives another attention scale from these shapes".to_owned());
    }
    if let Some(experts) = model.experts {
        header.u32(&key("expert_count"), count(experts.n_expert)?);
        header.u32(&key("expert_used_count"), count(experts.n_expert_used)?);
        if architecture == Architecture::Qwen3Moe {
            header.u32(&key("expert_feed_forward_length"), count(experts.d_ff)?);
        }
        if !experts.norm_topk {
            header.bool(&key("expert_weights_norm"), false);
            warnings.push(
                "llama.cpp divides the experts' weights by their sum; this model does not".into(),
            );
        }
        if model.expert_layers.contains(&false) {
            warnings
                .push("llama.cpp expects experts in every layer; some here are dense".to_owned());
        }
    }
    let regular = (0..model.n_layer).all(|layer| {
        model.rotated[layer] == (architecture != Architecture::SmolLm3 || (layer + 1) % 4 != 0)
    });
    if !regular {
        let what = "a GGUF file with other layers without position than every fourth";
        return Err(Error::unsupported(source.files.path(), what, "every fourth layer"));
    }
    Ok(())
}

fn describe_scaling(
    header: &mut Header,
    source: &Source<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let model = source.hyperparameters;
    let key = |key: &str| format!("{}.rope.scaling.{key}", model.architecture.name());
    match &model.scaling {
        // Divisors that stand in a tensor.
        Scaling::None | Scaling::Llama3 { .. } | Scaling::Factors(_) => {}
        Scaling::Linear { factor } => {
            header.string(&key("type"), "linear");
            header.f32(&key("factor"), *factor as f32);
        }
        Scaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate, magnitude } => {
            header.string(&key("type"), "yarn");
            header.f32(&key("factor"), *factor as f32);
            header.u32(&key("original_context_length"), *original_context as u32);
            // llama.cpp multiplies the paper's magnitude by this.
            let attention_factor = magnitude / yarn_magnitude(*factor, 1.0);
            if (attention_factor - 1.0).abs() > 1e-6 {
                header.f32(&key("attn_factor"), attention_factor as f32);
            }
            if (*beta_fast, *beta_slow) != (32.0, 1.0) {
                header.f32(&key("yarn_beta_fast"), *beta_fast as f32);
                header.f32(&key("yarn_beta_slow"), *beta_slow as f32);
            }
            if !truncate {
                warnings.push("GGUF cannot say that YaRN's ramp is not rounded".to_owned());
            }
        }
        Scaling::LongRope { original_context, magnitude, .. } => {
            header.string(&key("type"), "longrope");
            header.u32(&key("original_context_length"), *original_context as u32);
            header.f32(&key("attn_factor"), *magnitude as f32);
        }
    }
    Ok(())
}

fn describe_window(
    header: &mut Header,
    source: &Source<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    let model = source.hyperparameters;
    let architecture = model.architecture;
    let key = format!("{}.attention.sliding_window", architecture.name());
    let Some(window) = model.window else {
        // llama.cpp's default for Phi-3 is decided by the key's presence.
        if architecture == Architecture::Phi3 {
            header.u32(&key, 0);
        }
        return Ok(());
    };
    let window = u32::try_from(window);
    header.u32(&key, window.map_err(|_| Error::request("convert", "a 32-bit window", "more"))?);
    let period = match architecture {
        Architecture::Gemma2 => 2,
        Architecture::Gemma3 => 6,
        _ => 0,
    };
    let usual = (0..model.n_layer)
        .all(|layer| model.windowed[layer] == (period == 0 || layer % period != period - 1));
    if !usual {
        header.bools(&format!("{key}_pattern"), &model.windowed);
    }
    if !matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3) {
        warnings.push("llama.cpp lets this architecture see beyond its sliding window".to_owned());
    }
    Ok(())
}

/// What llama.cpp makes of a vocabulary that is not so.
fn misreadings(vocabulary: &GgufVocabulary) -> Vec<String> {
    const CONTROL: i32 = 3;
    let mut warnings = Vec::new();
    // Its own defaults (llama-vocab.cpp), which no metadata can turn off.
    let default = match vocabulary.model.as_str() {
        "llama" => Some(2),
        "gpt2" => Some(11),
        "t5" => Some(1),
        _ => None,
    };
    let types = vocabulary.token_types.as_deref().unwrap_or(&[]);
    if vocabulary.eos.is_none()
        && let Some(id) = default
        && let Some(token) = vocabulary.tokens.get(id)
        && types.get(id) != Some(&CONTROL)
    {
        warnings.push(format!(
            "the vocabulary has no end token: llama.cpp takes token {id}, {token:?}, for it"
        ));
    }
    // No character has this byte; vocabularies that lack nothing have a token of it.
    if vocabulary.model == "rwkv" && !vocabulary.tokens.iter().any(|token| token == r"\xff") {
        warnings.push(
            "llama.cpp fails, or never returns, at characters that the vocabulary lacks".to_owned(),
        );
    }
    warnings
}

fn write_vocabulary(
    header: &mut Header,
    vocabulary: &GgufVocabulary,
    vocab_size: usize,
) -> Result<(), Error> {
    let n = vocabulary.tokens.len();
    if n > vocab_size {
        let expected = format!("at most {vocab_size} tokens, the rows of the embedding");
        return Err(Error::request("convert", expected, n));
    }
    let key = |key: &str| format!("tokenizer.ggml.{key}");
    header.string(&key("model"), &vocabulary.model);
    if let Some(pre) = &vocabulary.pre {
        header.string(&key("pre"), pre);
    }
    // Rows of the embedding beyond the vocabulary are tokens that nothing makes.
    const UNUSED: i32 = 5;
    let mut tokens = vocabulary.tokens.clone();
    tokens.extend((n..vocab_size).map(|id| format!("[PAD{id}]")));
    header.strings(&key("tokens"), &tokens);
    if let Some(scores) = &vocabulary.scores {
        let mut scores = scores.clone();
        scores.resize(vocab_size, -1000.0);
        header.f32s(&key("scores"), &scores);
    }
    if vocabulary.token_types.is_some() || n < vocab_size {
        let mut types = vocabulary.token_types.clone().unwrap_or(vec![1; n]);
        types.resize(vocab_size, UNUSED);
        header.i32s(&key("token_type"), &types);
    }
    if let Some(merges) = &vocabulary.merges {
        header.strings(&key("merges"), merges);
    }
    let ids = [
        ("bos", vocabulary.bos),
        ("eos", vocabulary.eos),
        ("eot", vocabulary.eot),
        ("eom", vocabulary.eom),
        ("unknown", vocabulary.unk),
        ("seperator", vocabulary.sep),
        ("padding", vocabulary.pad),
        ("cls", vocabulary.cls),
        ("mask", vocabulary.mask),
        ("fim_pre", vocabulary.fim_pre),
        ("fim_suf", vocabulary.fim_suf),
        ("fim_mid", vocabulary.fim_mid),
        ("fim_pad", vocabulary.fim_pad),
        ("fim_rep", vocabulary.fim_rep),
        ("fim_sep", vocabulary.fim_sep),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            header.u32(&key(&format!("{name}_token_id")), id);
        }
    }
    let flags = [
        ("add_bos_token", vocabulary.add_bos),
        ("add_eos_token", vocabulary.add_eos),
        ("add_sep_token", vocabulary.add_sep),
        ("add_space_prefix", vocabulary.add_space_prefix),
        ("remove_extra_whitespaces", vocabulary.remove_extra_whitespaces),
        ("normalizer.lowercase", vocabulary.lowercase),
        ("normalizer.strip_accents", vocabulary.strip_accents),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            header.bool(&key(name), flag);
        }
    }
    if let Some(map) = &vocabulary.precompiled_charsmap {
        header.bytes(&key("precompiled_charsmap"), map);
    }
    if let Some(template) = &vocabulary.chat_template {
        header.string("tokenizer.chat_template", template);
    }
    Ok(())
}

/// Metadata being written.
#[derive(Default)]
struct Header {
    entries: Vec<u8>,
    n_entry: u64,
}

/// Numbers of GGUF's value types.
mod value_type {
    pub(super) const U8: u32 = 0;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
}

impl Header {
    fn key(&mut self, key: &str) {
        push_string(&mut self.entries, key);
        self.n_entry += 1;
    }

    /// A key with its type and value as another file encodes them.
    fn raw(&mut self, key: &str, encoded: &[u8]) {
        self.key(key);
        self.entries.extend_from_slice(encoded);
    }

    fn scalar(&mut self, key: &str, kind: u32, bytes: &[u8]) {
        self.key(key);
        self.entries.extend_from_slice(&kind.to_le_bytes());
        self.entries.extend_from_slice(bytes);
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.scalar(key, value_type::U32, &value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.scalar(key, value_type::F32, &value.to_le_bytes());
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.scalar(key, value_type::BOOL, &[u8::from(value)]);
    }

    fn string(&mut self, key: &str, value: &str) {
        self.scalar(key, value_type::STRING, &[]);
        push_string(&mut self.entries, value);
    }

    fn list(&mut self, key: &str, element: u32, n: usize) {
        self.scalar(key, value_type::ARRAY, &element.to_le_bytes());
        self.entries.extend_from_slice(&(n as u64).to_le_bytes());
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.list(key, value_type::STRING, values.len());
        values.iter().for_each(|value| push_string(&mut self.entries, value));
    }

    fn f32s(&mut self, key: &str, values: &[f32]) {
        self.list(key, value_type::F32, values.len());
        self.entries.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn i32s(&mut self, key: &str, values: &[i32]) {
        self.list(key, value_type::I32, values.len());
        self.entries.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn bools(&mut self, key: &str, values: &[bool]) {
        self.list(key, value_type::BOOL, values.len());
        self.entries.extend(values.iter().map(|&value| u8::from(value)));
    }

    fn bytes(&mut self, key: &str, values: &[u8]) {
        self.list(key, value_type::U8, values.len());
        self.entries.extend_from_slice(values);
    }

    /// The header's bytes, and the bytes of all tensors.
    fn finish(self, planned: &[Planned<'_>]) -> Result<(Vec<u8>, u64), Error> {
        let mut head = b"GGUF".to_vec();
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&(planned.len() as u64).to_le_bytes());
        head.extend_from_slice(&self.n_entry.to_le_bytes());
        head.extend_from_slice(&self.entries);
        let (mut offset, mut total) = (0u64, 0u64);
        for tensor in planned {
            push_string(&mut head, &tensor.name);
            head.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for &n in tensor.shape.iter().rev() {
                head.extend_from_slice(&(n as u64).to_le_bytes());
            }
            head.extend_from_slice(&code_of(tensor.dtype).to_le_bytes());
            head.extend_from_slice(&offset.to_le_bytes());
            let bytes = super::planned_bytes(tensor)? as u64;
            offset += bytes.next_multiple_of(ALIGNMENT as u64);
            total += bytes;
        }
        Ok((head, total))
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
