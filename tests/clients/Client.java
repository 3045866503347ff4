import java.io.ByteArrayInputStream;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/**
 * Requests by Java's HttpClient as it is: it prefers HTTP/2, and offers h2c with every request.
 *
 * <p>java Client.java "METHOD URL PROXY-PORT" ... prints for each a line with status and body. A
 * proxy port of "-" means no proxy.
 */
public class Client {
    private static final Duration PATIENCE = Duration.ofSeconds(10);

    public static void main(String[] arguments) {
        for (String argument : arguments) {
            System.out.println(answer(argument));
        }
        // Threads of the clients would keep the program for a while.
        System.exit(0);
    }

    private static String answer(String argument) {
        String[] words = argument.split(" ");
        try {
            HttpClient client = client(words[2]);
            var response = client.send(request(words[0], words[1]), BodyHandlers.ofString());
            return response.statusCode() + " " + response.body();
        } catch (Exception error) {
            return "0 " + error;
        }
    }

    private static HttpClient client(String proxyPort) {
        var builder = HttpClient.newBuilder().connectTimeout(PATIENCE);
        if (!proxyPort.equals("-")) {
            var address = new InetSocketAddress("localhost", Integer.parseInt(proxyPort));
            builder.proxy(ProxySelector.of(address));
        }
        return builder.build();
    }

    private static HttpRequest request(String method, String url) {
        var builder = HttpRequest.newBuilder(URI.create(url)).timeout(PATIENCE);
        byte[] body = "a body".getBytes();
        switch (method) {
            case "POST" -> builder.POST(BodyPublishers.ofByteArray(body));
            // Of unknown length, so in chunks.
            case "STREAM" -> builder.POST(
                BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)));
            default -> builder.GET();
        }
        return builder.build();
    }
}
