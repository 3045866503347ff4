import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;

/** Sends one POST, and prints the status and the Location. */
public class Once {
    public static void main(String[] arguments) throws Exception {
        var connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        connection.setConnectTimeout(10_000);
        connection.setReadTimeout(10_000);
        try (OutputStream body = connection.getOutputStream()) {
            body.write("hello".getBytes());
        }
        System.out.println(connection.getResponseCode() + " " + connection.getHeaderField("Location"));
    }
}
