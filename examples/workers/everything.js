// Hands every request on to the origin, with everything that came with it: method, headers, body,
// and a wish to become a WebSocket. What comes back is handed back the same way.
export default {
  async fetch(request, environment) {
    const { pathname, search } = new URL(request.url);
    const url = `https://a-secured-origin.com${pathname}${search}`;
    // The runtime hands redirects to whoever asked; a Worker that wants to follow them says so.
    const redirect = search === "?follow" ? "follow" : "manual";
    return await environment.MY_CERT.fetch(new Request(url, request), { redirect });
  },
};
