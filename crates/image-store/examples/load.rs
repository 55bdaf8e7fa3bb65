//! Loads an image archive into a data root and says how long it took: `load ARCHIVE DATA_ROOT`.

use std::path::PathBuf;
use std::time::Instant;

use wharf_image_store::ImageStore;
use wharf_state::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(archive), Some(data_root)) = (arguments.next(), arguments.next().map(PathBuf::from))
    else {
        return Err("usage: load ARCHIVE DATA_ROOT".into());
    };
    std::fs::create_dir_all(&data_root)?;
    let store = ImageStore::open(&data_root, Store::open(&data_root.join("state.redb"))?)?;
    let begin = Instant::now();
    let loaded = store.load(std::fs::File::open(archive)?, None, &|_| {});
    let took = begin.elapsed();
    #[allow(clippy::print_stdout, reason = "a program's output")]
    for image in loaded? {
        println!("{} ({:.3} s)", image.message(), took.as_secs_f64());
    }
    Ok(())
}
