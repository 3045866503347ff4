// Hands every request on to the origin, with everything that came with it: method, headers, body,
// and a wish to become a WebSocket. What comes back is handed back the same way.
export default {
  async fetch(request, environment) {
    const { hostname, pathname, search } = new URL(request.url);
    if (hostname === "a-secured-origin.com") {
      return await environment.MY_CERT.fetch(request);
    }
    const url = `https://a-secured-origin.com${pathname}${search}`;
    // Redirects are handed to whoever asked, unless the Worker says that it wants to follow them.
    const redirect = search === "?follow" ? "follow" : "manual";
    return await environment.MY_CERT.fetch(new Request(url, request), { redirect });
  },
};
