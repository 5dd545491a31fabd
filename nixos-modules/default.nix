# NixOS' part of imgsys: options, configuration file and credentials. The units themselves are those
# of systemd/, taken from the package.
{
  imports = [
    ./options.nix
    ./services.nix
    ./local.nix
    ./assertions.nix
  ];
}
