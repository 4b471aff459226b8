//! Servers with models, and the same models alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use llmos_model::convert::FileType;
use llmos_model::engine::{Ending, GenerateOptions};
use llmos_model::sampler::{Sampler, SamplerOptions};
use llmos_model::{
    Device, Engine, EngineOptions, GgufVocabulary, Isa, Model, ModelFiles, Vocabulary,
};
use llmos_serve::{Loaded, Models, Offer, Server, ServerOptions, Stopper};
use llmos_tokenizer::{GgufVocab, Tokenizer};

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A model of the tests.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Tells stories; 512 tokens of context.
    Stories,
    /// The bundled assistant.
    Assistant,
    /// Knows a dozen conversations by heart, tool calls among them: testdata/agent/make.py.
    Parrot,
    /// The vocabulary of `Stories`, random weights, and a context that no test fills.
    Endless,
}

fn device() -> Arc<Device> {
    Arc::new(Device::new(Isa::detect(), 1))
}

/// Loads a model.
pub(crate) fn load(kind: Kind, options: EngineOptions) -> Loaded {
    let device = device();
    let engine = |model| Engine::new(Arc::new(model), device.clone(), options.clone()).unwrap();
    if let Kind::Parrot = kind {
        let folder = repository("testdata/agent/base");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let config = text("tokenizer_config.json");
        let tokenizer =
            Tokenizer::from_json(text("tokenizer.json").as_bytes(), Some(config.as_bytes()));
        let model = Model::load(ModelFiles::open(&folder).unwrap(), &device).unwrap();
        return Loaded {
            engine: engine(model),
            tokenizer: Arc::new(tokenizer.unwrap()),
            template: Some(text("chat_template.jinja")),
            digest: Some("sha256:parrot".to_string()),
        };
    }
    let path = match kind {
        Kind::Assistant => "models/assistant.gguf",
        _ => "models/stories260K.gguf",
    };
    let files = ModelFiles::open(&repository(path)).unwrap();
    let Vocabulary::Gguf(vocabulary) = files.vocabulary().unwrap() else { panic!("no GGUF") };
    let tokenizer = Tokenizer::from_gguf(&words(&vocabulary)).unwrap();
    let template = tokenizer.chat_template().map(str::to_string);
    let model = match kind {
        Kind::Endless => {
            let mut config = files.config().unwrap().clone();
            config.context_length = 1 << 20;
            Model::random(config, FileType::F16, 1, &device).unwrap()
        }
        _ => Model::load(files, &device).unwrap(),
    };
    Loaded { engine: engine(model), tokenizer: Arc::new(tokenizer), template, digest: None }
}

/// The two crates' types hold the same words.
fn words(vocabulary: &GgufVocabulary) -> GgufVocab {
    macro_rules! same {
        ($($word:ident)*) => {{
            let GgufVocabulary { $($word),* } = vocabulary.clone();
            GgufVocab { $($word),* }
        }};
    }
    same! {
        model pre tokens scores token_types merges bos eos eot eom unk sep pad cls mask fim_pre
        fim_suf fim_mid fim_pad fim_rep fim_sep add_bos add_eos add_sep add_space_prefix
        remove_extra_whitespaces precompiled_charsmap lowercase strip_accents chat_template model_name
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

/// Options for a free port.
pub(crate) fn options() -> ServerOptions {
    ServerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        grace: Duration::from_millis(100),
        clock: Some(Arc::new(|| NOW)),
        ..ServerOptions::default()
    }
}

/// 27 November 2026, 10:39: what the parrot learnt that the clock says.
pub(crate) const NOW: i64 = 1_795_775_940;

/// Offers a model under a name.
pub(crate) fn offer(id: &str, bytes: u64, kind: Kind, engine: EngineOptions) -> Offer {
    let load = Box::new(move || Ok(load(kind, engine.clone())));
    Offer { id: id.to_string(), bytes, created: 1_700_000_000, load }
}

/// A server of one model.
pub(crate) fn serve(kind: Kind, options: ServerOptions, engine: EngineOptions) -> Running {
    let models = Models::new(None);
    models.offer(offer("test", 0, kind, engine));
    run(options, models)
}

/// A server of one model as it comes.
pub(crate) fn simple(kind: Kind) -> Running {
    serve(kind, options(), EngineOptions::default())
}

pub(crate) fn run(options: ServerOptions, models: Models) -> Running {
    let server = Server::bind(options, models).unwrap();
    let (address, stopper) = (server.address(), server.stopper());
    let thread = std::thread::spawn(move || server.run().unwrap());
    Running { address, stopper, thread: Some(thread) }
}

impl Running {
    /// Stops, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a model writes alone, greedily: text, and whether it ended by itself.
pub(crate) fn alone(loaded: &mut Loaded, prompt: &str, most: usize) -> (String, bool) {
    let tokenizer = loaded.tokenizer.clone();
    let ends: Vec<u32> = tokenizer.end_ids().iter().copied().chain(tokenizer.bos()).collect();
    let mut sampler = Sampler::new(SamplerOptions::greedy(), 0).unwrap();
    let mut decoder = tokenizer.decoder().skip_special();
    let mut text = String::new();
    let options = GenerateOptions { tokens: Some(most), end: &ends, ..GenerateOptions::default() };
    let generated = loaded
        .engine
        .generate(&tokenizer.encode_prompt(prompt), &mut sampler, options, &mut |token| {
            text += &decoder.push(token);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    text += &decoder.flush();
    (text, matches!(generated.ending, Ending::End(_)))
}
