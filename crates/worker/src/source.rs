//! Where images may be fetched from: only under configured prefixes, and under each only the one
//! name that a server of ours gives an image.
//!
//! A task's URL is anybody's word. It is never taken apart: it must equal a prefix followed by the
//! name made from the job's own digest, so there is no `..`, no query and no encoding to judge.

use imgsys_types::Digest;
use reqwest::Url;
use std::path::PathBuf;

/// The configured prefixes.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    /// It ends in `/`.
    prefix: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Http(Url),
}

/// Where an image is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a directory of images, in the folder named by the digest's first two digits.
    Directory(PathBuf),
    /// At a server's HTTP listener.
    Http(Url),
}

/// A prefix that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("worker.image_sources: {prefix:?}: {why}")]
pub(crate) struct BadPrefix {
    prefix: String,
    why: &'static str,
}

/// Why an image is not fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the image's URL is under none of this worker's image sources")]
    Elsewhere,
    #[error("the image's URL does not end in the name of the image: {expected}")]
    OtherName { expected: String },
}

impl Sources {
    /// Reads the prefixes.
    pub(crate) fn parse(prefixes: &[String]) -> Result<Self, BadPrefix> {
        let sources = prefixes.iter().map(|prefix| Source::parse(prefix));
        sources.collect::<Result<_, _>>().map(Self)
    }

    /// Whether images are fetched over TLS.
    pub(crate) fn over_tls(&self) -> bool {
        let mut sources = self.0.iter();
        sources.any(|source| source.prefix.starts_with("https://"))
    }

    /// Where the image with this digest is, if the URL is one that may be fetched.
    pub(crate) fn locate(&self, image_url: &str, sha256: &Digest) -> Result<Location, Refused> {
        let mut refused = Refused::Elsewhere;
        for source in &self.0 {
            let Some(name) = image_url.strip_prefix(&source.prefix) else {
                continue;
            };
            match source.locate(name, sha256) {
                Ok(location) => return Ok(location),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Source {
    fn parse(prefix: &str) -> Result<Self, BadPrefix> {
        let bad = |why| BadPrefix {
            prefix: prefix.into(),
            why,
        };
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let place = if let Some(path) = prefix.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(bad("write file:///DIRECTORY/"));
            }
            // As servers write it: the path as it is, nothing encoded.
            Place::Directory(path.into())
        } else if prefix.starts_with("http://") || prefix.starts_with("https://") {
            let url = Url::parse(&prefix).map_err(|_| bad("no URL"))?;
            let has_user = !url.username().is_empty() || url.password().is_some();
            let has_more = url.query().is_some() || url.fragment().is_some() || has_user;
            if has_more || url.as_str() != prefix {
                return Err(bad(
                    "write http://HOST:PORT/PATH/ or https://…, with nothing else",
                ));
            }
            Place::Http(url)
        } else {
            return Err(bad(
                "write file:///DIRECTORY/, http://HOST:PORT/PATH/ or https://HOST:PORT/PATH/",
            ));
        };
        Ok(Self { prefix, place })
    }

    fn locate(&self, name: &str, sha256: &Digest) -> Result<Location, Refused> {
        let digest = sha256.to_string();
        let expected = match self.place {
            Place::Directory(_) => format!("{}/{digest}", &digest[..2]),
            Place::Http(_) => digest,
        };
        if name != expected {
            return Err(Refused::OtherName { expected });
        }
        Ok(match &self.place {
            Place::Directory(root) => Location::Directory(root.clone()),
            Place::Http(base) => {
                let mut url = base.clone();
                url.set_path(&format!("{}{expected}", base.path()));
                Location::Http(url)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(prefixes: &[&str]) -> Result<Sources, String> {
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.into()).collect();
        Sources::parse(&prefixes).map_err(|error| error.to_string())
    }

    fn digest() -> Digest {
        Digest::from_bytes([0xab; 32])
    }

    #[test]
    fn only_the_images_own_name_under_a_prefix_is_fetched() {
        let sources = sources(&["file:///srv/my images/", "http://h:7451/images"]).unwrap();
        assert!(!sources.over_tls());
        let name = "ab".repeat(32);
        assert_eq!(
            sources.locate(&format!("file:///srv/my images/ab/{name}"), &digest()),
            Ok(Location::Directory("/srv/my images/".into()))
        );
        let url = format!("http://h:7451/images/{name}");
        assert_eq!(
            sources.locate(&url, &digest()),
            Ok(Location::Http(Url::parse(&url).unwrap()))
        );

        let other_names = [
            format!("file:///srv/my images/{name}"),
            format!("file:///srv/my images/ab/{}", "cd".repeat(32)),
            format!("file:///srv/my images/ab/../ab/{name}"),
            format!("file:///srv/my images/../my images/ab/{name}"),
            format!("file:///srv/my images//ab/{name}"),
            format!("file:///srv/my images/ab/{name}/"),
            format!("file:///srv/my images/ab/{name}\0"),
            format!("file:///srv/my images/AB/{}", name.to_uppercase()),
            format!("http://h:7451/images/{name}?x"),
            format!("http://h:7451/images/{name}#x"),
            format!("http://h:7451/images/..%2f{name}"),
            format!("http://h:7451/images/ab/{name}"),
            "http://h:7451/images/".into(),
        ];
        for url in other_names {
            let refused = sources.locate(&url, &digest());
            assert!(matches!(refused, Err(Refused::OtherName { .. })), "{url}");
        }

        let elsewhere = [
            "file:///etc/passwd".into(),
            format!("file:///srv/my%20images/ab/{name}"),
            format!("/srv/my images/ab/{name}"),
            format!("FILE:///srv/my images/ab/{name}"),
            format!("http://h:7451/images.evil/{name}"),
            format!("http://h:7451@evil/images/{name}"),
            format!("http://evil/images/{name}"),
            format!("https://h:7451/images/{name}"),
            String::new(),
        ];
        for url in elsewhere {
            let refused = sources.locate(&url, &digest());
            assert_eq!(refused, Err(Refused::Elsewhere), "{url}");
        }
    }

    #[test]
    fn of_two_prefixes_the_one_that_fits_counts() {
        let sources = sources(&["file:///srv/", "file:///srv/images/"]).unwrap();
        let url = format!("file:///srv/images/ab/{}", "ab".repeat(32));
        let root = PathBuf::from("/srv/images/");
        assert_eq!(
            sources.locate(&url, &digest()),
            Ok(Location::Directory(root))
        );
    }

    #[test]
    fn prefixes_that_make_no_sense_are_refused() {
        for prefix in [
            "",
            "/srv/images",
            "file://host/images/",
            "file:/srv/images/",
            "https://me:secret@h",
            "https://",
            "http://h/images/?token=x",
            "http://h/a/../images/",
            "http:///",
            "ftp://h/",
        ] {
            let error = sources(&[prefix]).unwrap_err();
            assert!(error.starts_with("worker.image_sources: "), "{error}");
        }
    }
}
