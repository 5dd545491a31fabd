# The few functions of nixpkgs' lib that flake.nix and nix/ themselves use, for where there is no
# nixpkgs: enough for the flake's outputs, too little for modules.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    filter
    fromTOML
    head
    isString
    listToAttrs
    map
    mapAttrs
    pathExists
    readFile
    split
    stringLength
    substring
    ;
in
rec {
  inherit
    attrNames
    elem
    filter
    head
    mapAttrs
    pathExists
    ;
  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
  filterAttrs =
    keep: set:
    listToAttrs (
      map (name: nameValuePair name set.${name}) (filter (name: keep name set.${name}) (attrNames set))
    );
  optionalAttrs = condition: set: if condition then set else { };
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  removePrefix =
    prefix: text:
    if hasPrefix prefix text then substring (stringLength prefix) (stringLength text) text else text;
  hasSuffix =
    suffix: text:
    let
      begin = stringLength text - stringLength suffix;
    in
    begin >= 0 && substring begin (stringLength suffix) text == suffix;
  removeSuffix =
    suffix: text:
    if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
  splitString = separator: text: filter isString (split separator text);
  importTOML = file: fromTOML (readFile file);
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
  fileset = {
    toSource = { root, ... }: root;
    unions = files: files;
    fileFilter = _: root: root;
  };
  licenses = {
    mit = { };
    asl20 = { };
  };
  platforms = {
    linux = [ ];
    unix = [ ];
  };
  optionAttrSetToDocList = _: [ ];
  evalModules = _: { options.services = { }; };
  types = { };
  mkOption = _: { };
}
