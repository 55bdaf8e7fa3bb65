//! Owner: the server engineer. `container` uses `engine.images.store()` (the image-store crate's handle)
//! for resolve and rw layers. "In use" is answered by `engine.containers.using_image(&digest)`.
