//! Which file of a model a registry's tag means: the quantisation that stands in its name. Pure.

/// The tag that is meant where none is given.
pub const LATEST: &str = "latest";

/// What `latest` means, the first that there is: what most people take, then the nearest to it.
const PREFERRED: [&str; 12] =
    ["q4_k_m", "q4_k_s", "q4_0", "q5_k_m", "q5_k_s", "q4_k_l", "iq4_xs", "q6_k", "q8_0", "q3_k_m", "f16", "bf16"];

const ENDING: &str = ".gguf";

/// The index of the file that a tag means, among the paths of a model; upper and lower case are the same. Parts of a split file, and
/// projectors that stand beside a model, are no model.
pub fn choose<'a>(paths: impl IntoIterator<Item = &'a str>, tag: &str) -> Option<usize> {
    let candidates: Vec<(usize, String)> = paths
        .into_iter()
        .enumerate()
        .filter_map(|(index, path)| {
            let name = path.rsplit('/').next().unwrap_or(path).to_lowercase();
            let stem = name.strip_suffix(ENDING)?.to_owned();
            (!is_part(&stem) && !stem.contains("mmproj")).then_some((index, stem))
        })
        .collect();
    let of = |quant: &str| candidates.iter().find(|(_, stem)| ends_in(stem, quant)).map(|(index, _)| *index);
    let tag = tag.to_lowercase();
    let tag = tag.strip_suffix(ENDING).unwrap_or(&tag);
    if tag != LATEST {
        return of(tag);
    }
    PREFERRED.iter().find_map(|quant| of(quant)).or_else(|| candidates.first().map(|(index, _)| *index))
}

/// Whether the stem is this text, or ends in it after something that separates words.
fn ends_in(stem: &str, tag: &str) -> bool {
    !tag.is_empty() && stem.strip_suffix(tag).is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '.', '_']))
}

/// `…-00001-of-00003`
fn is_part(stem: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = |(rest, total): (&str, &str)| number(total) && rest.rsplit('-').next().is_some_and(number);
    stem.rsplit_once("-of-").is_some_and(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: [&str; 9] = [
        "README.md",
        "Model-7B-BF16-00001-of-00002.gguf",
        "Model-7B-BF16-00002-of-00002.gguf",
        "Model-7B-IQ4_XS.gguf",
        "Model-7B-Q4_K_M.gguf",
        "Model-7B-Q8_0.gguf",
        "Model-7B-UD-Q4_K_XL.gguf",
        "mmproj-F16.gguf",
        "q2/Model-7B.Q2_K.gguf",
    ];

    fn chosen(tag: &str) -> Option<&'static str> {
        choose(REPOSITORY, tag).map(|index| REPOSITORY[index])
    }

    #[test]
    fn a_tag_is_the_end_of_a_name() {
        assert_eq!(chosen("Q4_K_M"), Some("Model-7B-Q4_K_M.gguf"));
        assert_eq!(chosen("q8_0"), Some("Model-7B-Q8_0.gguf"));
        assert_eq!(chosen("Q2_K"), Some("q2/Model-7B.Q2_K.gguf"));
        assert_eq!(chosen("UD-Q4_K_XL"), Some("Model-7B-UD-Q4_K_XL.gguf"));
        assert_eq!(chosen("Model-7B-IQ4_XS.gguf"), Some("Model-7B-IQ4_XS.gguf"));
        assert_eq!(chosen("4_XS"), None, "only whole words");
    }

    #[test]
    fn what_is_no_model_has_no_tag() {
        for tag in ["BF16", "F16", "Q3_K_M", "", "main", "00002"] {
            assert_eq!(chosen(tag), None, "{tag:?}");
        }
    }

    #[test]
    fn latest_is_what_most_people_take() {
        assert_eq!(chosen("latest"), Some("Model-7B-Q4_K_M.gguf"));
        assert_eq!(choose(["a-q8_0.gguf", "a-iq4_xs.gguf"], LATEST), Some(1));
        assert_eq!(choose(["x.gguf", "y.gguf"], LATEST), Some(0), "whatever there is");
        assert_eq!(choose(["model.safetensors"], LATEST), None);
    }
}
