# Takes the images; Redis beside it, for the workers on other machines.
{
  services.imgsys = {
    server = {
      enable = true;
      openFirewall = true;
    };
    tokensFile = "/run/secrets/imgsys-tokens";
    tls = {
      certificate = "/var/lib/acme/images.example/fullchain.pem";
      key = "/var/lib/acme/images.example/key.pem";
      http = true;
    };
    redis = {
      createLocally = true;
      passwordFile = "/run/secrets/imgsys-redis";
    };
    database.passwordFile = "/run/secrets/imgsys-database";
    settings = {
      server = {
        listen = "0.0.0.0:7450";
        http_listen = "0.0.0.0:7451";
        image_url = "https://images.example:7451/images/";
      };
      database.url = "host=database.example user=imgsys dbname=imgsys";
    };
  };

  services.redis.servers.imgsys = {
    port = 6379;
    bind = "0.0.0.0";
    openFirewall = true;
  };
}
