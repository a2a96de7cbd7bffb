use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use cache_types::Hash;
use cache_types::nix::{
    Algorithm, ContentAddress, MAX_NAR_INFO_BYTES, Method as Addressing, NarInfo, SelfReference, StorePath,
    StorePathHash,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::request::Parts;
use http::{StatusCode, header};
use store::StoreError;

use crate::caches::Inner;
use crate::compression::Compression;
use crate::records::{
    NarHash, NarRecord, Origin, PathRecord, Root, UploadRecord, decode, encode, nar_key, path_key, upload_key,
};
use crate::render::{self, PlanError};
use crate::response::Refusal;
use crate::route::NarName;
use crate::settings::CacheSettings;
use crate::unpack::{self, UnpackedNar};
use crate::{access, feed, keep};

/// References that are asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// What a pusher claims about the NAR of a path, resolved to what was really uploaded.
struct Uploaded {
    nar: Hash,
    nar_size: u64,
    file_size: Option<u64>,
    compression: Compression,
}

/// Uploads, by callers who may push. Spec: nix-binary-cache §7.
impl Inner {
    pub(crate) async fn put_nar(
        &self,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        (name, writer): (NarName, String),
    ) -> Result<Response, Refusal> {
        if encoding(head)? != Compression::None {
            return Err(Refusal::Encoding("a NAR has no content encoding: its name says how it is packed".to_owned()));
        }
        let bench = self.bench();
        if body.size_hint().lower() > bench.limits.max_bytes {
            return Err(Refusal::TooLarge(bench.limits.max_bytes));
        }
        let permit = self.unpacking.acquire().await.expect("it is never closed");
        let body = feed::incoming(body, &self.uploads);
        let unpacked = feed::through(body, move |feed| unpack::unpack_nar(feed, name.compression, &bench)).await?;
        drop(permit);
        if *unpacked.file.hash() != name.hash {
            let found = NarName::new(*unpacked.file.hash(), name.compression).url();
            return Err(Refusal::Malformed(format!("the bytes are those of {found}")));
        }
        self.keep_nar(cache, &unpacked, &writer).await?;
        let upload = UploadRecord {
            nar: NarHash(*unpacked.nar.hash()),
            nar_size: unpacked.nar.size_bytes(),
            file_size: unpacked.file.size_bytes(),
            compression: unpacked.compression,
        };
        let key = upload_key(cache.name.as_str(), &name.hash, name.compression.suffix());
        self.records.put(key, encode(&upload, &writer)).await?;
        Ok(StatusCode::OK.into_response())
    }

    /// Stores the parts of a NAR, puts it together again from them, and then stores the record that names them.
    pub(crate) async fn keep_nar(
        &self,
        cache: &CacheSettings,
        unpacked: &UnpackedNar,
        writer: &str,
    ) -> Result<(), Refusal> {
        let record = NarRecord { size: unpacked.nar.size_bytes(), root: unpacked.root.clone() };
        keep::nar(&*self.blobs, unpacked).await?;
        if !self.is_rendered_again(unpacked.nar.hash(), &record).await? {
            // A part that was here before was damaged. It is gone now, and stored anew.
            keep::nar(&*self.blobs, unpacked).await?;
            if !self.is_rendered_again(unpacked.nar.hash(), &record).await? {
                let source = format!("{} is not what its parts give again", unpacked.nar).into();
                return Err(StoreError::Internal { level: "storing a NAR", source }.into());
            }
        }
        let key = nar_key(cache.name.as_str(), unpacked.nar.hash());
        Ok(self.records.put(key, encode(&record, writer)).await?)
    }

    /// Whether what is stored gives the NAR again, byte for byte: read from the store and hashed as a whole, once, before
    /// anything names it. From then on the checksums of its parts say whether it is still so.
    async fn is_rendered_again(&self, nar: &Hash, record: &NarRecord) -> Result<bool, Refusal> {
        match render::load(&*self.blobs, *nar, record).await {
            Ok(plan) => Ok(render::is_sound(self.blobs.clone(), Arc::new(plan)).await?),
            Err(PlanError::Gone) => Ok(false),
            Err(PlanError::Store(error)) => Err(error.into()),
        }
    }

    pub(crate) async fn put_narinfo(
        self: &Arc<Self>,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        (path, writer): (StorePathHash, String),
    ) -> Result<Response, Refusal> {
        let replacing = head.uri.query() == Some("replace");
        if replacing {
            access::administering(head, cache)?;
        }
        let text = self.small_text(head, body, MAX_NAR_INFO_BYTES).await?;
        let info = NarInfo::parse(&text, &cache.store_dir).map_err(malformed)?;
        if info.path.hash() != path {
            return Err(malformed("the narinfo is of another path than its name says"));
        }
        self.check_nar(cache, &info).await?;
        self.check_address(cache, &info).await?;
        self.check_references(cache, &info).await?;
        let _turn = self.path_lock(path).lock().await;
        let info = if replacing { info } else { self.merge(cache, info).await? };
        let record = PathRecord { narinfo: info.print(&cache.store_dir), origin: Origin::Pushed };
        self.records.put(path_key(cache.name.as_str(), path), encode(&record, &writer)).await?;
        Ok(StatusCode::OK.into_response())
    }

    /// Checks that the NAR was uploaded into this cache, is whole, and is what the narinfo says.
    async fn check_nar(&self, cache: &CacheSettings, info: &NarInfo) -> Result<(), Refusal> {
        let file = info.file.url.strip_prefix("nar/").filter(|file| !file.contains(['/', '?']));
        let file = file.ok_or_else(|| malformed("URL is nar/ and the name of a file that was uploaded here"))?;
        let name = NarName::parse(file).map_err(|refusal| match refusal {
            Refusal::Missing => malformed("URL is nar/, 52 characters, .nar and what says how it is packed"),
            refusal => refusal,
        })?;
        let uploaded = self.uploaded(cache, name).await?;
        let uploaded =
            uploaded.ok_or_else(|| malformed(format!("{} was not uploaded: put the NAR first", info.file.url)))?;
        if info.file.compression != uploaded.compression.name() {
            return Err(malformed(format!(
                "Compression {} does not go with URL {}",
                info.file.compression, info.file.url
            )));
        }
        if info.file.hash.is_some_and(|hash| hash != name.hash) {
            return Err(malformed("FileHash is not the hash of the file that URL names"));
        }
        if info.file.size.is_some() && uploaded.file_size.is_some() && info.file.size != uploaded.file_size {
            return Err(malformed("FileSize is not the size of the file that URL names"));
        }
        if info.nar_hash != uploaded.nar || info.nar_size != uploaded.nar_size {
            return Err(malformed("NarHash and NarSize are not those of the NAR that was uploaded"));
        }
        match self.complete(cache, &uploaded.nar).await? {
            Some(_) => Ok(()),
            None => Err(malformed("parts of the NAR are gone: put it again")),
        }
    }

    async fn uploaded(&self, cache: &CacheSettings, name: NarName) -> Result<Option<Uploaded>, Refusal> {
        if let Some(upload) = self.upload(cache, name).await? {
            let file_size = Some(upload.file_size);
            let UploadRecord { nar, nar_size, compression, .. } = upload;
            return Ok(Some(Uploaded { nar: nar.0, nar_size, file_size, compression }));
        }
        // The name that this cache itself serves the NAR under; a signature may have been added to its narinfo.
        let record = self.records.get(&nar_key(cache.name.as_str(), &name.hash)).await?;
        let record: Option<NarRecord> = record.and_then(|encoded| decode(&encoded));
        Ok(record.map(|record| Uploaded {
            nar: name.hash,
            nar_size: record.size,
            file_size: None,
            compression: name.compression,
        }))
    }

    /// Checks that a content address gives this path, and, where it can be seen, that it is that of the content.
    async fn check_address(&self, cache: &CacheSettings, info: &NarInfo) -> Result<(), Refusal> {
        let Some(address) = &info.content_address else {
            return Ok(());
        };
        let own = if info.refers_to_itself() { SelfReference::Yes } else { SelfReference::No };
        let others: Vec<StorePath> = info.other_references().cloned().collect();
        let path = address.path(&cache.store_dir, info.path.name(), &others, own).map_err(malformed)?;
        if path != info.path {
            return Err(malformed(format!("CA {address} is that of {path}")));
        }
        // What refers to itself is hashed with its own name left out, which is not seen here.
        if own == SelfReference::No && !self.is_addressed(cache, info, address).await? {
            return Err(malformed(format!("CA {address} is not that of the content")));
        }
        Ok(())
    }

    async fn is_addressed(
        &self,
        cache: &CacheSettings,
        info: &NarInfo,
        address: &ContentAddress,
    ) -> Result<bool, Refusal> {
        let expected = match address {
            ContentAddress::Fixed { method: Addressing::Recursive, algorithm: Algorithm::Sha256, hash } => {
                return Ok(info.nar_hash.as_bytes() == hash.as_slice());
            }
            ContentAddress::Fixed { method: Addressing::Flat, algorithm: Algorithm::Sha256, hash } => hash.as_slice(),
            ContentAddress::Text(hash) => hash.as_bytes(),
            // Other functions: the path was checked, the content is the pusher's word.
            ContentAddress::Fixed { .. } => return Ok(true),
        };
        let record = self.records.get(&nar_key(cache.name.as_str(), &info.nar_hash)).await?;
        let record: Option<NarRecord> = record.and_then(|encoded| decode(&encoded));
        Ok(match record.map(|record| record.root) {
            Some(Root::File { digest, .. }) => digest.hash().as_bytes() == expected,
            Some(Root::Whole) => true,
            _ => false,
        })
    }

    /// Checks that closures stay whole: each reference is in this cache or in one that it asks.
    async fn check_references(self: &Arc<Self>, cache: &CacheSettings, info: &NarInfo) -> Result<(), Refusal> {
        let asked = info.other_references().map(|reference| async move {
            let known = self.path_record(cache, reference.hash()).await?.is_some()
                || self.ask_upstreams(cache, reference.hash()).await?.is_some();
            if known {
                return Ok(());
            }
            Err(malformed(format!(
                "the reference {reference} is not in this cache: push the whole closure, references first (a client that \
                 believes it is here needs a new cache folder or --narinfo-cache-positive-ttl 0)"
            )))
        });
        stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(ASKED_AT_ONCE).try_collect().await
    }

    /// What is to be stored beside what is there: the first NAR of a path stays, signatures are gathered.
    async fn merge(&self, cache: &CacheSettings, mut info: NarInfo) -> Result<NarInfo, Refusal> {
        let known = self.path_record(cache, info.path.hash()).await?;
        let Some(known) = known.and_then(|record| record.info(&cache.store_dir)) else {
            return Ok(info);
        };
        if known.nar_hash == info.nar_hash {
            for signature in known.signatures {
                if !info.signatures.contains(&signature) {
                    info.signatures.push(signature);
                }
            }
            return Ok(info);
        }
        if self.sound(cache, &known.nar_hash).await?.is_none() {
            return Ok(info);
        }
        Err(Refusal::Conflict(format!(
            "{} is here with other content: its build is not reproducible, and the first one stays. An administrator \
             replaces it by PUT with ?replace",
            info.path
        )))
    }
}

pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

pub(crate) fn malformed(reason: impl ToString) -> Refusal {
    Refusal::Malformed(reason.to_string())
}

/// How the body is packed on its way. Spec: N-53.
pub(crate) fn encoding(head: &Parts) -> Result<Compression, Refusal> {
    let Some(value) = head.headers.get(header::CONTENT_ENCODING) else {
        return Ok(Compression::None);
    };
    let name = value.to_str().unwrap_or_default().to_ascii_lowercase();
    Compression::from_encoding(&name).ok_or_else(|| Refusal::Encoding(format!("content encoding {name} is not taken")))
}
