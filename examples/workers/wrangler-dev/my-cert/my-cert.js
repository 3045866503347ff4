// Stands in for an mTLS binding. The path is all that mtlsd gets to see, so every request goes to
// the `origin` that mtlsd.toml names.
export default {
  async fetch(request) {
    const { pathname, search } = new URL(request.url);
    return await fetch(`http://127.0.0.1:8001${pathname}${search}`, request);
  },
};
