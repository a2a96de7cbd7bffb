//! Resource names and instance names: any text is refused or reads back as it is written.
#![no_main]

use cache_types::{InstanceName, ReadResource, WriteResource};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    if let Ok(read) = ReadResource::parse(name) {
        assert_eq!(ReadResource::parse(&read.to_string()).as_ref(), Ok(&read));
    }
    if let Ok(write) = WriteResource::parse(name) {
        assert_eq!(WriteResource::parse(&write.to_string()).as_ref(), Ok(&write));
    }
    if let Ok(instance) = InstanceName::parse(name) {
        assert_eq!(InstanceName::parse(instance.as_str()).as_ref(), Ok(&instance));
    }
});
