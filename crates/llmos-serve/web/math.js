// LaTeX formulas as MathML, which browsers draw themselves. Libraries that do this are several times the size
// of the whole page; here is what models write: fractions, roots, scripts, sums, matrices, letters, arrows.

import { h } from "./html.js";

/** `<${Formula} text="\\frac12" display />`; what cannot be read is shown as it was written. */
export function Formula({ text, display = false }) {
  try {
    const content = new Reader(text, display).all();
    return h("math", { class: "formula", display: display ? "block" : undefined, "aria-label": text }, content);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return h("code", { class: "formula", title: error.message }, text);
  }
}

/** "name sign name sign" as a table. */
const table = (text) => new Map(text.trim().split(/\s+/).map((word, i, all) => [word, all[i + 1]]).filter((_, i) => i % 2 === 0));

const LETTERS = table(`
  alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ lambda λ mu μ nu ν
  xi ξ omicron ο pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ chi χ psi ψ omega ω
  Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω infty ∞ partial ∂ nabla ∇ hbar ℏ ell ℓ
  Re ℜ Im ℑ aleph ℵ emptyset ∅ varnothing ∅ top ⊤ bot ⊥ angle ∠ triangle △ square □ degree ° imath ı jmath ȷ wp ℘ dots …
  ldots … cdots ⋯ vdots ⋮ ddots ⋱ dotsc … dotsb ⋯ checkmark ✓ star ⋆ bullet • diamond ⋄ % % # # $ $ & & _ _`);

const OPERATORS = table(`
  + + - − * ∗ / / = = < < > > , , ; ; : : ! ! | | ( ( ) ) [ [ ] ] . . ? ?
  times × cdot ⋅ div ÷ pm ± mp ∓ ast ∗ circ ∘ oplus ⊕ ominus ⊖ otimes ⊗ odot ⊙ cup ∪ cap ∩ setminus ∖ wedge ∧ land ∧ vee ∨ lor ∨
  le ≤ leq ≤ leqslant ⩽ ge ≥ geq ≥ geqslant ⩾ ne ≠ neq ≠ equiv ≡ approx ≈ sim ∼ simeq ≃ cong ≅ propto ∝ ll ≪ gg ≫ prec ≺ succ ≻
  in ∈ notin ∉ ni ∋ subset ⊂ supset ⊃ subseteq ⊆ supseteq ⊇ subsetneq ⊊ nsubseteq ⊈ perp ⊥ parallel ∥ mid ∣ nmid ∤ vdash ⊢ models ⊨
  to → rightarrow → leftarrow ← gets ← leftrightarrow ↔ Rightarrow ⇒ Leftarrow ⇐ Leftrightarrow ⇔ implies ⟹ impliedby ⟸ iff ⟺
  longrightarrow ⟶ longleftarrow ⟵ Longrightarrow ⟹ mapsto ↦ longmapsto ⟼ uparrow ↑ downarrow ↓ Uparrow ⇑ Downarrow ⇓ nearrow ↗ searrow ↘
  hookrightarrow ↪ rightharpoonup ⇀ rightleftharpoons ⇌ forall ∀ exists ∃ nexists ∄ neg ¬ lnot ¬ therefore ∴ because ∵
  prime ′ colon : lbrace { rbrace } { { } } langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ vert | lvert | rvert | Vert ‖ lVert ‖ rVert ‖ lbrack [ rbrack ]
  coloneqq ≔ triangleq ≜ doteq ≐ asymp ≍ backslash \\ dagger † lt < gt > ltimes ⋉ rtimes ⋊`);

const BIG = table("sum ∑ prod ∏ coprod ∐ bigcup ⋃ bigcap ⋂ bigvee ⋁ bigwedge ⋀ bigoplus ⨁ bigotimes ⨂ int ∫ iint ∬ iiint ∭ oint ∮");
const FUNCTIONS = new Set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth exp log ln lg deg dim hom ker arg lim max min sup inf det gcd Pr limsup liminf argmax argmin".split(" "));
const WITH_LIMITS = new Set("lim max min sup inf det gcd Pr limsup liminf argmax argmin".split(" "));
const ACCENTS = table("hat ^ widehat ^ bar ¯ overline ¯ vec → overrightarrow → overleftarrow ← dot ˙ ddot ¨ tilde ~ widetilde ~ check ˇ breve ˘ acute ´ grave ` mathring ˚ overbrace ⏞");
const UNDERS = table("underline _ underbrace ⏟ underrightarrow →");
const SPACES = new Map(Object.entries({ ",": 0.17, ":": 0.22, ">": 0.22, ";": 0.28, "!": -0.17, " ": 0.33, "~": 0.33, quad: 1, qquad: 2, enspace: 0.5, thinspace: 0.17 }));
const SIZES = { big: 1.2, Big: 1.8, bigg: 2.4, Bigg: 3 };
const FENCES = { matrix: "", smallmatrix: "", pmatrix: "()", bmatrix: "[]", Bmatrix: "{}", vmatrix: "||", Vmatrix: "‖‖", cases: "{" };
/** Where the alphabets of ISO math begin: capitals, small letters, digits. */
const ALPHABETS = {
  mathbf: [0x1d400, 0x1d41a, 0x1d7ce], boldsymbol: [0x1d468, 0x1d482, 0x1d7ce], bm: [0x1d468, 0x1d482, 0x1d7ce], mathit: [0x1d434, 0x1d44e],
  mathcal: [0x1d49c, 0x1d4b6], mathscr: [0x1d49c, 0x1d4b6], mathfrak: [0x1d504, 0x1d51e], mathbb: [0x1d538, 0x1d552, 0x1d7d8],
  mathsf: [0x1d5a0, 0x1d5ba, 0x1d7e2], mathtt: [0x1d670, 0x1d68a, 0x1d7f6],
};
/** Letters that had a place before the alphabets did. */
const ELSEWHERE = table("𝑕 ℎ 𝒝 ℬ 𝒠 ℰ 𝒡 ℱ 𝒣 ℋ 𝒤 ℐ 𝒧 ℒ 𝒨 ℳ 𝒭 ℛ 𝒺 ℯ 𝒼 ℊ 𝓄 ℴ 𝔆 ℭ 𝔋 ℌ 𝔌 ℑ 𝔕 ℜ 𝔝 ℨ 𝔺 ℂ 𝔿 ℍ 𝕅 ℕ 𝕇 ℙ 𝕈 ℚ 𝕉 ℝ 𝕑 ℤ");

function styled(text, alphabet) {
  const begins = ALPHABETS[alphabet];
  return [...text].map((char) => {
    const [at, base] = /[A-Z]/.test(char) ? [0, 65] : /[a-z]/.test(char) ? [1, 97] : /[0-9]/.test(char) ? [2, 48] : [];
    if (begins?.[at] === undefined) return char;
    const moved = String.fromCodePoint(begins[at] + char.charCodeAt(0) - base);
    return ELSEWHERE.get(moved) ?? moved;
  }).join("");
}

const DEEPEST = 60;
const row = (children) => (children.length === 1 ? children[0] : h("mrow", null, children));
const mo = (sign, props) => h("mo", props, sign);
const upright = (text) => h("mi", { mathvariant: "normal" }, text);

class Reader {
  constructor(text, display) {
    this.tokens = text.match(/\\(?:[a-zA-Z]+\*?|[^])|\s+|\d+(?:,\d{3})*(?:\.\d+)?|[^]/gu) ?? [];
    this.at = 0;
    this.depth = 0;
    this.display = display;
    this.alphabet = null;
  }

  all() {
    const rows = this.lines((token) => token === undefined);
    // Lines without an environment around them stand one below the other.
    return rows.length === 1 && rows[0].length === 1 ? rows[0][0] : this.grid(rows, "aligned");
  }

  fail(why) {
    throw new SyntaxError(why);
  }

  peek() {
    while (/^\s/.test(this.tokens[this.at] ?? "")) this.at++;
    return this.tokens[this.at];
  }

  take(expected) {
    if (this.peek() !== expected) return false;
    this.at++;
    return true;
  }

  /** Parts up to a token that `ends`. */
  parts(ends) {
    if (++this.depth > DEEPEST) this.fail("nested too deep");
    const parts = [];
    for (let token; !ends((token = this.peek())); ) {
      if (token === undefined) this.fail("a group is not closed");
      if (token === "}" ) this.fail("a brace too many");
      const part = this.scripted();
      if (part) parts.push(part);
    }
    this.depth--;
    return parts;
  }

  /** Rows of cells, up to a token that `ends`. */
  lines(ends) {
    const rows = [[]];
    const cellEnds = (token) => token === "&" || token === "\\\\" || token === "\\cr" || ends(token);
    for (;;) {
      rows.at(-1).push(row(this.parts(cellEnds)));
      const token = this.peek();
      if (ends(token)) break;
      this.at++;
      if (token === "&") continue;
      if (this.peek() === "[") this.optional();
      rows.push([]);
    }
    if (rows.length > 1 && rows.at(-1).length === 1 && rows.at(-1)[0].props?.children?.length === 0) rows.pop();
    return rows;
  }

  grid(rows, name, columns) {
    // Signs of comparison stand below each other: every second column ends where the next begins.
    const side = (i) => columns?.[i] ?? (/^(aligned|align|split|eqnarray)/.test(name) ? "rl"[i % 2] : name === "cases" ? "l" : "c");
    const align = { l: "-webkit-left", r: "-webkit-right", c: "center" };
    return h("mtable", { displaystyle: /matrix|cases|array/.test(name) ? undefined : "true" }, rows.map((cells) =>
      h("mtr", null, cells.map((cell, i) => h("mtd", { style: { textAlign: align[side(i)] ?? "center" } }, cell)))));
  }

  group() {
    if (!this.take("{")) {
      const token = this.peek();
      if (token === undefined || token === "}") this.fail("something is missing at the end");
      // Without braces one digit is meant: \frac12 is a half.
      if (/^\d./.test(token)) this.tokens.splice(this.at, 1, token[0], token.slice(1));
      return this.atom().node;
    }
    const parts = this.parts((token) => token === "}");
    this.at++;
    return row(parts);
  }

  optional() {
    this.at++;
    const parts = this.parts((token) => token === "]");
    this.at++;
    return row(parts);
  }

  /** The text of a group, spaces included. */
  words() {
    if (!this.take("{")) return this.tokens[this.at++] ?? "";
    let text = "";
    for (let depth = 1; ; this.at++) {
      const token = this.tokens[this.at] ?? this.fail("a group is not closed");
      depth += token === "{" ? 1 : token === "}" ? -1 : 0;
      if (!depth) break;
      if (!/^[{}$]$/.test(token)) text += /^\\[^a-zA-Z]$/.test(token) ? token[1] : token.replace(/^\s+$/, " ");
    }
    this.at++;
    return text;
  }

  /** An atom with what stands above and below it. */
  scripted() {
    const { node, limits, isSpace } = /^[\^_']$/.test(this.peek()) ? { node: h("mrow") } : this.atom();
    let under;
    let over;
    let above = limits;
    for (;;) {
      const token = this.peek();
      if (token === "\\limits" || token === "\\nolimits") above = token === "\\limits";
      else if (token === "_" && !under) under = (this.at++, this.group());
      else if (token === "^" && !over) over = (this.at++, this.group());
      else if (token === "'") {
        let count = 0;
        while (this.take("'")) count++;
        const primes = mo(["", "′", "″", "‴"][count] ?? "′".repeat(count));
        over = over ? row([primes, over]) : this.take("^") ? row([primes, this.group()]) : primes;
        continue;
      } else break;
      if (token.startsWith("\\")) this.at++;
    }
    if (isSpace || (!under && !over)) return node;
    const [both, low, high] = above ? ["munderover", "munder", "mover"] : ["msubsup", "msub", "msup"];
    return under && over ? h(both, null, node, under, over) : under ? h(low, null, node, under) : h(high, null, node, over);
  }

  delimiter() {
    const token = this.peek() ?? this.fail("a delimiter is missing");
    this.at++;
    if (token === ".") return "";
    const name = token.replace(/^\\/, "");
    return token === "\\|" ? "‖" : OPERATORS.get(name) ?? this.fail(`${token} is no delimiter`);
  }

  atom() {
    const token = this.peek();
    this.at++;
    if (token === "{") {
      this.at--;
      return { node: this.group() };
    }
    if (/^\d/.test(token)) return { node: h("mn", null, styled(token, this.alphabet)) };
    if (token === "~") return { node: h("mspace", { width: "0.33em" }) };
    if (token[0] === "\\" && token.length > 1) return this.command(token.slice(1).replace(/\*$/, ""));
    if (OPERATORS.has(token)) return { node: mo(OPERATORS.get(token), /^[()[\]|]$/.test(token) ? { stretchy: "false" } : null) };
    if (token === "&") this.fail("& stands outside of a table");
    return { node: this.alphabet === "mathrm" ? upright(token) : h("mi", null, styled(token, this.alphabet)) };
  }

  command(name) {
    if (name === "|") return { node: mo("‖", { stretchy: "false" }) };
    if (SPACES.has(name)) return { node: h("mspace", { width: `${SPACES.get(name)}em` }), isSpace: true };
    if (LETTERS.has(name)) return { node: /^[A-Z]/.test(name) ? upright(LETTERS.get(name)) : h("mi", null, LETTERS.get(name)) };
    if (BIG.has(name)) return { node: mo(BIG.get(name), { movablelimits: "false" }), limits: this.display && !name.endsWith("int") };
    if (FUNCTIONS.has(name)) return { node: row([h("mi", null, name.replace(/(lim|arg)(?=sup|inf|max|min)/, "$1 ")), h("mspace", { width: "0.17em" })]), limits: this.display && WITH_LIMITS.has(name) };
    if (OPERATORS.has(name)) return { node: mo(OPERATORS.get(name), /^[{}]$|^[lr]?[vV]ert$|angle$/.test(name) ? { stretchy: "false" } : null) };
    if (ACCENTS.has(name)) return { node: h("mover", { accent: "true" }, this.group(), mo(ACCENTS.get(name), { stretchy: String(/^(over|wide)/.test(name)) })), limits: name === "overbrace" };
    if (UNDERS.has(name)) return { node: h("munder", null, this.group(), mo(UNDERS.get(name), { stretchy: "true" })), limits: name === "underbrace" };
    if (ALPHABETS[name] || name === "mathrm" || name === "rm") return { node: this.inAlphabet(name) };
    switch (name) {
      case "frac": case "dfrac": case "tfrac": case "cfrac":
        return { node: h("mfrac", name === "dfrac" ? { displaystyle: "true" } : null, this.group(), this.group()) };
      case "binom": case "dbinom": case "tbinom":
        return { node: h("mrow", null, mo("("), h("mfrac", { linethickness: "0" }, this.group(), this.group()), mo(")")) };
      case "sqrt": {
        const index = this.peek() === "[" ? this.optional() : null;
        return { node: index ? h("mroot", null, this.group(), index) : h("msqrt", null, this.group()) };
      }
      case "text": case "textrm": case "textbf": case "textit": case "textsf": case "texttt": case "mbox": case "hbox": {
        const text = this.words().replace(/^ | $/g, "\u00a0");
        return { node: h("mtext", null, name === "textbf" ? styled(text, "mathbf") : text) };
      }
      case "operatorname": case "mathop":
        return { node: row([upright(this.words()), h("mspace", { width: "0.17em" })]), limits: this.display };
      case "left": {
        const open = this.delimiter();
        const parts = this.parts((token) => token === "\\right");
        this.at++;
        const close = this.delimiter();
        return { node: h("mrow", null, open && mo(open, { fence: "true", form: "prefix" }), parts, close && mo(close, { fence: "true", form: "postfix" })) };
      }
      case "middle":
        return { node: mo(this.delimiter(), { fence: "true", stretchy: "true" }) };
      case "overset": case "stackrel": case "underset": {
        const small = this.group();
        return { node: h(name === "underset" ? "munder" : "mover", null, this.group(), small) };
      }
      case "xrightarrow": case "xleftarrow":
        return { node: h("mover", null, mo(name === "xrightarrow" ? "→" : "←", { stretchy: "true" }), this.group()) };
      case "not":
        return { node: mo(`${OPERATORS.get((this.peek() ?? "").replace(/^\\/, "")) ?? ""}\u0338`), skip: this.at++ };
      case "pmod":
        return { node: h("mrow", null, h("mspace", { width: "0.44em" }), mo("("), h("mi", null, "mod"), h("mspace", { width: "0.33em" }), this.group(), mo(")")) };
      case "bmod": case "mod":
        return { node: h("mrow", null, h("mspace", { width: "0.28em" }), h("mi", null, "mod"), h("mspace", { width: "0.28em" })) };
      case "tag":
        return { node: h("mtext", null, `\u2003(${this.words()})`) };
      case "boxed": case "fbox":
        return { node: h("mrow", { class: "boxed" }, this.group()) };
      case "phantom": case "hphantom": case "vphantom":
        return { node: h("mphantom", null, this.group()) };
      case "begin":
        return { node: this.environment() };
      case "color": case "textcolor":
        this.words();
        return { node: h("mrow") };
      case "displaystyle": case "textstyle": case "scriptstyle": case "nonumber": case "notag": case "limits": case "nolimits": case "hline": case "mathstrut": case "allowbreak":
        return { node: null };
      default: {
        const size = /^(big|Big|bigg|Bigg)[lrm]?$/.exec(name);
        if (!size) this.fail(`\\${name} is not known`);
        const em = `${SIZES[size[1]]}em`;
        return { node: mo(this.delimiter(), { minsize: em, maxsize: em, stretchy: "true", symmetric: "true" }) };
      }
    }
  }

  inAlphabet(name) {
    const outer = this.alphabet;
    this.alphabet = name === "rm" ? "mathrm" : name;
    const node = this.group();
    this.alphabet = outer;
    return node;
  }

  environment() {
    const whole = this.words();
    const name = whole.replace(/\*$/, "");
    const columns = name === "array" ? this.words().replace(/[^lrc]/g, "") : null;
    const rows = this.lines((token) => token === "\\end");
    this.at++;
    if (this.words() !== whole) this.fail(`\\begin{${whole}} is not closed`);
    const inner = this.grid(rows, name, columns);
    const [open, close] = FENCES[name] ?? "";
    return h("mrow", null, open && mo(open, { fence: "true", form: "prefix" }), inner, close && mo(close, { fence: "true", form: "postfix" }));
  }
}
