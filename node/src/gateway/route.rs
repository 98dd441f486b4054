//! What a request's path asks for. The path is split first and decoded after: a slash that is written `%2F` separates nothing. Pure; a
//! path that leads out of a model is none of its files.

use percent_encoding::percent_decode_str;

use crate::names::{MAIN, ModelId};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/api/models`: which models there are.
    Models,
    /// `/api/models/ID…`: something about a model.
    Model(ModelId, About),
    /// `/ID/resolve/REVISION/PATH`: a file.
    File(ModelId, FilePath),
    /// `/v2/`: whether this is a registry.
    Registry,
    /// `/v2/ID/manifests/TAG`: a model of one file, as a registry describes it.
    RegistryManifest(ModelId, String),
    /// `/v2/ID/blobs/DIGEST`: that file.
    RegistryBlob(ModelId, String),
    /// A repository that cannot be here: another kind, or no name.
    NoRepository,
    /// Nothing of this gateway's.
    Nothing,
    /// Not to be read.
    Malformed,
}

/// What is to be known of a model. A revision is a branch or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// Itself, with the names of its files. Without a revision in the path it may be in the query.
    Info(Option<String>),
    /// The files in a folder (empty: the root).
    Tree(String, String),
    /// These paths; they are in the body.
    Paths(String),
    /// Its branches.
    Refs,
    /// Its history.
    Commits(String),
    /// What people say about it.
    Discussions,
    /// Whether the caller may read it.
    AuthCheck,
}

/// A file in a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// The branch or commit.
    pub revision: String,
    /// The path, decoded.
    pub path: String,
    /// The path as it was written.
    pub raw: String,
}

/// Reads the path of a request, without its query.
pub fn route(path: &str) -> Route {
    let raw: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let decoded: Option<Vec<String>> = raw.iter().map(|segment| decoded(segment)).collect();
    let Some(segments) = decoded else { return Route::Malformed };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments[..] {
        ["api", ref rest @ ..] => api(rest),
        ["v2"] | ["v2", ""] => Route::Registry,
        ["v2", ref rest @ ..] => registry(rest),
        ["datasets" | "spaces" | "kernels" | "buckets", ..] => Route::NoRepository,
        [name, "resolve" | "raw", ref rest @ ..] => file(name.parse().ok(), rest, &raw[2..]),
        [org, name, "resolve" | "raw", ref rest @ ..] => file(format!("{org}/{name}").parse().ok(), rest, &raw[3..]),
        _ => Route::Nothing,
    }
}

fn decoded(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn file(id: Option<ModelId>, rest: &[&str], raw: &[&str]) -> Route {
    let Some(id) = id else { return Route::NoRepository };
    match rest {
        [revision, path @ ..] => {
            Route::File(id, FilePath { revision: (*revision).to_owned(), path: path.join("/"), raw: raw[1..].join("/") })
        }
        [] => Route::Nothing,
    }
}

fn api(segments: &[&str]) -> Route {
    let rest = match segments {
        ["models"] => return Route::Models,
        ["models", rest @ ..] => rest,
        ["datasets" | "spaces" | "kernels" | "buckets", ..] => return Route::NoRepository,
        _ => return Route::Nothing,
    };
    // A name of one part is followed by a verb, or by nothing.
    let (id, rest) = match rest {
        [name] => ((*name).to_owned(), &rest[1..]),
        [name, verb, ..] if is_verb(verb) => ((*name).to_owned(), &rest[1..]),
        [org, name, ..] => (format!("{org}/{name}"), &rest[2..]),
        [] => return Route::Nothing,
    };
    let Ok(id) = id.parse() else { return Route::NoRepository };
    let revision = |rest: &[&str]| rest.first().map_or_else(|| MAIN.to_owned(), |revision| (*revision).to_owned());
    let about = match rest {
        [] | [""] => About::Info(None),
        ["revision", rest @ ..] => About::Info(Some(revision(rest))),
        ["tree", rest @ ..] => {
            About::Tree(revision(rest), rest.get(1..).unwrap_or_default().join("/").trim_matches('/').to_owned())
        }
        ["paths-info", rest @ ..] => About::Paths(revision(rest)),
        ["refs"] => About::Refs,
        ["commits", rest @ ..] => About::Commits(revision(rest)),
        ["discussions"] => About::Discussions,
        ["auth-check"] => About::AuthCheck,
        _ => return Route::Nothing,
    };
    Route::Model(id, about)
}

fn is_verb(segment: &str) -> bool {
    matches!(segment, "revision" | "tree" | "paths-info" | "refs" | "commits" | "discussions" | "auth-check" | "xet-read-token")
}

fn registry(segments: &[&str]) -> Route {
    let (id, kind, name) = match segments {
        [name, kind, what] => ((*name).to_owned(), *kind, *what),
        [org, name, kind, what] => (format!("{org}/{name}"), *kind, *what),
        _ => return Route::Nothing,
    };
    match (id.parse(), kind) {
        (Err(_), _) => Route::NoRepository,
        (Ok(id), "manifests") => Route::RegistryManifest(id, name.to_owned()),
        (Ok(id), "blobs") => Route::RegistryBlob(id, name.to_owned()),
        _ => Route::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str, about: About) -> Route {
        Route::Model(id.parse().unwrap(), about)
    }

    fn file(id: &str, revision: &str, path: &str, raw: &str) -> Route {
        let file = FilePath { revision: revision.to_owned(), path: path.to_owned(), raw: raw.to_owned() };
        Route::File(id.parse().unwrap(), file)
    }

    #[test]
    fn every_route() {
        let main = || MAIN.to_owned();
        for (path, expected) in [
            ("/api/models", Route::Models),
            ("/api/models/o/m", model("o/m", About::Info(None))),
            ("/api/models/gpt2", model("gpt2", About::Info(None))),
            ("/api/models/gpt2/revision/main", model("gpt2", About::Info(Some(main())))),
            ("/api/models/o/m/revision/feature%2Fslash", model("o/m", About::Info(Some("feature/slash".to_owned())))),
            ("/api/models/o/m/tree/main", model("o/m", About::Tree(main(), String::new()))),
            ("/api/models/o/m/tree/main/sub%20dir%2Fnested", model("o/m", About::Tree(main(), "sub dir/nested".to_owned()))),
            ("/api/models/o/m/tree/main/a/b", model("o/m", About::Tree(main(), "a/b".to_owned()))),
            ("/api/models/o/m/paths-info/main", model("o/m", About::Paths(main()))),
            ("/api/models/o/m/refs", model("o/m", About::Refs)),
            ("/api/models/o/m/commits/main", model("o/m", About::Commits(main()))),
            ("/api/models/o/m/discussions", model("o/m", About::Discussions)),
            ("/api/models/o/m/auth-check", model("o/m", About::AuthCheck)),
            ("/api/models/o/m/xet-read-token/main", Route::Nothing),
            ("/api/models/o/m--x", Route::NoRepository),
            ("/api/datasets/o/m", Route::NoRepository),
            ("/api/whoami-v2", Route::Nothing),
            ("/o/m/resolve/main/a%20b/c.json", file("o/m", "main", "a b/c.json", "a%20b/c.json")),
            ("/gpt2/resolve/main/config.json", file("gpt2", "main", "config.json", "config.json")),
            ("/o/m/raw/refs%2Fheads%2Fdev/x", file("o/m", "refs/heads/dev", "x", "x")),
            ("/datasets/o/m/resolve/main/x", Route::NoRepository),
            ("/v2/", Route::Registry),
            ("/v2/o/m/manifests/Q4_K_M", Route::RegistryManifest("o/m".parse().unwrap(), "Q4_K_M".to_owned())),
            ("/v2/o/m/blobs/sha256:00", Route::RegistryBlob("o/m".parse().unwrap(), "sha256:00".to_owned())),
            ("/", Route::Nothing),
            ("/o/m", Route::Nothing),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_encoded_stays_within_its_segment() {
        assert_eq!(
            route("/o/m/resolve/main/..%2F..%2Fetc%2Fpasswd"),
            file("o/m", "main", "../../etc/passwd", "..%2F..%2Fetc%2Fpasswd")
        );
        assert_eq!(route("/o%2Fm/resolve/main/x"), file("o/m", "main", "x", "x"), "a name of two parts in one segment");
        assert_eq!(route("/o/../m/resolve/main/x"), Route::Nothing);
        assert_eq!(route("/../m/resolve/main/x"), Route::NoRepository);
        assert_eq!(route("/o/m/resolve/main/%ff"), Route::Malformed);
        assert_eq!(route("/%00/m/resolve/main/x"), Route::NoRepository);
    }
}
