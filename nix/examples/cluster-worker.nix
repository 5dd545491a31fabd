# Analyses images. There may be as many of these as one likes.
{
  services.imgsys = {
    worker = {
      enable = true;
      imageSources = [ "http://images.example:7451/images/" ];
    };
    redis.passwordFile = "/run/secrets/imgsys-redis";
    settings.redis.url = "redis://images.example:6379/0";
  };
}
